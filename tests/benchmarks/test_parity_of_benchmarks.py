"""What benchmarks do with codes that differ: near-ties are counted, and one wrong code is a failure that says where."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.harness.parity import lead_codes, proved, rule_of, told
from benchmarks.load.check import Offline, _check_codes
from benchmarks.load.clients import ListenerLog
from benchmarks.load.plan import ListenerPlan
from streamcodec.audio import bundled_clip
from streamcodec.codec import Codec, load
from streamcodec.engine.base import EngineName
from streamcodec.errors import CodesError
from streamcodec.model.near_ties import Comparison
from streamcodec.protocol import pack_codes


@pytest.fixture(scope="module")
def codec() -> Codec:
    return load("speech-24k", engine="torch", threads=1)


@pytest.mark.parametrize("wrong", [None, (0, 0), (4, 33), (7, 59)])
def test_a_load_run_finds_one_wrong_code_of_one_listener(codec: Codec, wrong: tuple[int, int] | None) -> None:
    clip = bundled_clip()[0][: 60 * 320]
    codes = codec.encode(clip, bandwidth=6.0)
    offline = Offline(codes, codes[:, :0], rule_of(codec).stream(clip))
    sent = codes.copy()
    if wrong:
        sent[wrong] = (sent[wrong] + 1) % 1024
    packets = [(seq, 8, 80_000 * seq, pack_codes(sent[:, 6 * seq : 6 * seq + 6], 10), 0) for seq in range(10)]
    heard = ListenerLog(packets, starts=[("exact", 6.0, 0)], next_seq=10)
    found = _check_codes(codec, ListenerPlan(0, "codes", None), heard, offline, None)
    assert found["differing"] == (wrong is not None) and found["near_ties"] == 0
    told = [f"level {wrong[0]}: entry {sent[wrong]}", f"frame {wrong[1]}"] if wrong else []
    assert len(found["failures"]) == bool(told)
    assert all(part in found["failures"][0] for part in told)


@pytest.mark.parametrize("engine", ["torch", "openvino"])
def test_a_primed_stream_is_what_its_codes_decode_to_behind_the_model_s_silence(engine: EngineName) -> None:
    codec = load("speech-24k", engine=engine, threads=1)
    codes = codec.encode(bundled_clip()[0][: 60 * 320], bandwidth=6.0)
    lead = lead_codes(rule_of(codec), 8)
    decoder = codec.stream_decoder(bandwidth=6.0, start="primed")
    streamed = np.concatenate([decoder.feed(codes), decoder.flush()])
    whole = codec.decode(np.concatenate([lead, codes], axis=1))[lead.shape[1] * codec.hop_length :]
    # What is compared has a level: an error of 1e-5 is 100 dB below full scale, and a near-tie decided otherwise in the lead is above it.
    assert np.abs(whole).max() > 0.01 and np.abs(streamed - whole).max() < 1e-5


def test_figures_are_of_proved_codes_or_there_are_none(codec: Codec) -> None:
    clip = bundled_clip()[0][: 20 * 320]
    codes, rule = codec.encode(clip, bandwidth=6.0), rule_of(codec)
    equal = rule.compare(codes, codes, clip)
    assert proved([equal, Comparison(100, 3)]) == {"entries": 260, "differing": 3, "near_ties": 0}
    wrong = codes.copy()
    wrong[2, 9] = (wrong[2, 9] + 1) % 1024
    with pytest.raises(CodesError, match="frame 9, level 2"):
        proved([equal, rule.compare(wrong, codes, clip)])


@pytest.mark.parametrize(
    ("differing", "near_ties", "text"),
    [(None, None, "-"), (0, None, "none"), (1_200, None, "1,200, not proved"), (12, 3, "12, proved behind 3 near-ties")],
)
def test_a_report_says_how_many_entries_differ_and_are_proved(differing: int | None, near_ties: int | None, text: str) -> None:
    assert told(differing, near_ties) == text
