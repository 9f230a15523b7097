"""How benchmarks compare codes and tell it: equal, or each entry that differs proved a near-tie (`streamcodec.model.near_ties`)."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from streamcodec.codec import Codec
from streamcodec.errors import CodesError
from streamcodec.types import Codes

# Torch takes seconds to import, and a process that only makes a load has no use for it.
if TYPE_CHECKING:
    from streamcodec.model.near_ties import Comparison, NearTies

__all__ = ["counted", "lead_codes", "proved", "rule_of", "told"]


def rule_of(codec: Codec) -> NearTies:
    """The rule for the codes of a codec in float32, whose name is where its model lies."""
    from streamcodec.model.hub import load_model
    from streamcodec.model.near_ties import NearTies

    return NearTies(load_model(codec.name))


@functools.lru_cache(maxsize=8)  # many streams of one rule are checked
def lead_codes(rule: NearTies, n_q: int) -> Codes:
    """The codes [n_q, F] of the second of silence that a primed stream begins behind.

    They are those of the model itself, as primed states are: an engine that sums in another order may decide a near-tie in silence
    otherwise, and audio behind other codes is other audio.
    """
    import torch

    model = rule.model
    with torch.inference_mode():
        codes: Codes = model.encode(torch.zeros(1, 1, model.config.sampling_rate), None, n_q)[0][0].to(torch.int32).numpy()
    codes.flags.writeable = False
    return codes


def proved(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """As `counted`, of entries that are all proved; raises `CodesError` where one is not."""
    for found in comparisons:
        if not found:
            raise CodesError(str(found))
    return counted(comparisons)


def counted(comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """How many entries there were and differ, and how many near-ties explain them; None where one is not proved."""
    return {
        "entries": sum(found.entries for found in comparisons),
        "differing": sum(found.differing for found in comparisons),
        "near_ties": sum(len(found.near_ties) for found in comparisons) if all(comparisons) else None,
    }


def told(differing: int | None, near_ties: int | None) -> str:
    """How many entries differ, and behind how many near-ties; runs from before the rule have not proved theirs."""
    if differing is None:
        return "-"
    if not differing:
        return "none"
    return f"{differing:,}, not proved" if near_ties is None else f"{differing:,}, proved behind {near_ties:,} near-ties"
