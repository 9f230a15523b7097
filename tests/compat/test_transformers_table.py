"""The tables of transformers.md: every documented argument has a row, and each row holds against `transformers`."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from argument_cases import CASES, DIFFERENCES, REFUSED, Context
from compat_rig import KINDS, Pair, theirs

import streamcodec
from streamcodec.compat import transformers as compat
from streamcodec.errors import InputError

PAGE = (Path(streamcodec.__file__).parent / "docs" / "transformers.md").read_text(encoding="utf-8")
ROW = re.compile(r"^\| `(\w+)` \| (same|same, but|refused) \| (.*?) ?\|$", re.M)
# What the pages of version 4.37 document.
IN_4_37 = {
    "EncodecConfig": """target_bandwidths sampling_rate audio_channels normalize chunk_length_s overlap hidden_size num_filters
        num_residual_layers upsampling_ratios norm_type kernel_size last_kernel_size residual_kernel_size dilation_growth_rate
        use_causal_conv pad_mode compress num_lstm_layers trim_right_ratio codebook_size codebook_dim use_conv_shortcut kwargs""",
    "EncodecFeatureExtractor": "feature_size sampling_rate padding_value chunk_length_s overlap kwargs",
    "EncodecFeatureExtractor.__call__": "raw_audio padding truncation max_length return_tensors sampling_rate",
    "EncodecModel": "config",
    "EncodecModel.encode": "input_values padding_mask bandwidth return_dict",
    "EncodecModel.decode": "audio_codes audio_scales padding_mask return_dict",
    "EncodecModel.forward": "input_values padding_mask bandwidth audio_codes audio_scales return_dict",
}
# Arguments of the bases of `EncodecConfig`, which stand in the row `kwargs` but for the one that the model reads.
OF_ALL_MODELS = {
    "architectures",
    "chunk_size_feed_forward",
    "dtype",
    "id2label",
    "is_encoder_decoder",
    "label2id",
    "output_hidden_states",
    "problem_type",
    "transformers_version",
}


def tables() -> dict[str, dict[str, tuple[str, str]]]:
    """By call and argument: what the page says of it, and what differs."""
    sections = PAGE.replace("\\_", "_").split("\n## ")[1:]
    found = {section.partition("\n")[0]: {name: (here, why) for name, here, why in ROW.findall(section)} for section in sections}
    return {call: rows for call, rows in found.items() if rows}


TABLES = tables()
ROWS = [(call, argument, here) for call, rows in TABLES.items() for argument, (here, _) in rows.items()]


def documented(call: str) -> set[str]:
    """The arguments in the docstring and in the signature of a call of `transformers`."""
    name, _, method = call.partition(".")
    of = getattr(theirs(), name)
    function = getattr(of, method) if method else of
    # `state_dict (nested dictionary ...)`, `audio_scales (list of length ...)`, but no prose in parentheses.
    named = re.findall(r"^ +(\w+) ?\((?:\[?`|list of|nested|sequence|remaining)", function.__doc__ or "", re.M)
    taken = [parameter.name for parameter in inspect.signature(function).parameters.values()]
    return {*named, *taken} - {"self", "args"}


@pytest.fixture(scope="module")
def context(tmp_path_factory: pytest.TempPathFactory) -> Context:
    pairs = {kind: Pair.made(kind, tmp_path_factory.mktemp("table")) for kind in KINDS}
    return Context(pairs, tmp_path_factory)


def test_the_tables_are_read_whole() -> None:
    lines = [line for line in PAGE.splitlines() if line.startswith("| `")]
    assert len(ROWS) == len(lines) > 100
    assert len({(call, argument) for call, argument, _ in ROWS}) == len(ROWS)


@pytest.mark.parametrize("call", TABLES)
def test_every_documented_argument_has_a_row(call: str) -> None:
    expected = documented(call) - (OF_ALL_MODELS if call == "EncodecConfig" else set())
    missing = {"EncodecConfig": {"kwargs"}, "EncodecModel": set()}.get(call, set())
    assert expected - TABLES[call].keys() == set()
    assert TABLES[call].keys() - expected - missing == set(), "a row without an argument"
    assert set(IN_4_37.get(call, "").split()) <= TABLES[call].keys()


def test_every_name_that_the_page_has_is_there() -> None:
    for call in TABLES:
        name, _, method = call.partition(".")
        assert not method or callable(getattr(getattr(compat, name), method))
    assert IN_4_37.keys() <= TABLES.keys()


def test_every_row_has_a_case() -> None:
    expected = {(call, argument) for call, argument, here in ROWS if here != "refused"}
    assert CASES.keys() == expected
    assert DIFFERENCES.keys() == {(call, argument) for call, argument, here in ROWS if here == "same, but"}
    assert REFUSED.keys() == {(call, argument) for call, argument, here in ROWS if here == "refused"}
    for call, rows in TABLES.items():
        for argument, (here, why) in rows.items():
            assert why or here != "same, but", f"{call} {argument} does not say what differs"


def ids(row: Any) -> str | None:
    return row if isinstance(row, str) else None


@pytest.mark.parametrize(("call", "argument"), list(CASES), ids=ids)
def test_an_argument_means_what_it_means_to_transformers(context: Context, call: str, argument: str) -> None:
    CASES[call, argument](context)


@pytest.mark.parametrize(("call", "argument"), list(DIFFERENCES), ids=ids)
def test_an_argument_differs_as_the_page_says(context: Context, call: str, argument: str) -> None:
    DIFFERENCES[call, argument](context)


@pytest.mark.parametrize(("call", "argument"), list(REFUSED), ids=ids)
def test_an_argument_that_has_no_meaning_is_refused_by_name_unless_it_asks_for_nothing(context: Context, call: str, argument: str) -> None:
    values = REFUSED[call, argument]
    name, _, method = call.partition(".")
    pair = context.pairs["24 kHz"]
    of: Callable[..., Any] = getattr(getattr(compat, name), method)
    if method == "save_pretrained":
        of = getattr(pair.ours if name == "EncodecModel" else pair.ours.config if name == "EncodecConfig" else pair.our_extractor, method)
    where = str(context.folder("refused") if method == "save_pretrained" else values.where or pair.folder)
    given = {argument: values.asked} if argument not in ("kwargs", "model_args") else {}
    more = {"repo_id": "some/where"} if argument == "kwargs" else {}
    positional = (values.asked,) if argument == "model_args" else ()
    with pytest.raises(InputError, match=argument if given else "repo_id" if more else "positional"):
        of(where, *positional, **given, **more)
    for harmless in values.harmless:
        of(str(pair.folder) if method == "from_pretrained" else where, **{argument: harmless})


def test_the_names_of_the_package_are_those_of_transformers() -> None:
    assert compat.AutoProcessor is compat.EncodecFeatureExtractor
    for name in ("EncodecConfig", "EncodecFeatureExtractor", "EncodecModel", "BatchFeature"):
        assert getattr(compat, name).__name__ == getattr(theirs(), name).__name__
    for name in ("EncodecOutput", "EncodecEncoderOutput", "EncodecDecoderOutput"):
        there = inspect.getmodule(theirs().EncodecModel)
        assert list(getattr(compat, name).__dataclass_fields__) == list(getattr(there, name).__dataclass_fields__)
    assert theirs().version == re.search(r"`transformers` (5\.\d+)", PAGE)[1] + ".0"  # type: ignore[index]
    assert isinstance(compat.EncodecModel(compat.EncodecConfig(**KINDS["24 kHz"])), torch.nn.Module)
    assert np.isclose(compat.EncodecConfig().trim_right_ratio, 1.0)
