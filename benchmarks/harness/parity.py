"""How benchmarks compare codes and tell it: equal, or each entry that differs proved a near-tie (`streamcodec.model.near_ties`)."""

from __future__ import annotations

from streamcodec.codec import Codec
from streamcodec.model.hub import load_model
from streamcodec.model.near_ties import NearTies

__all__ = ["rule_of", "told"]


def rule_of(codec: Codec) -> NearTies:
    """The rule for the codes of a codec in float32, whose name is where its model lies."""
    return NearTies(load_model(codec.name))


def told(differing: int | None, near_ties: int | None) -> str:
    """How many entries differ, and behind how many near-ties; runs from before the rule have not proved theirs."""
    if differing is None:
        return "-"
    if not differing:
        return "none"
    return f"{differing:,}, not proved" if near_ties is None else f"{differing:,}, proved behind {near_ties:,} near-ties"
