"""The benchmark of a cluster: what it makes of what was seen, and a tiny run of each case; never its speed."""

from __future__ import annotations

from array import array
from pathlib import Path
from typing import Any

import pytest
from made_up_models import small_model
from programs import needs
from tiny_benchmark import run_tiny

from benchmarks.cluster import churning, cuts, drain, hop, kills
from benchmarks.cluster.company import CompanyTalk, heard_again_s, silence_ms, worst
from benchmarks.cluster.ear import PACKET_S, ClusterEar, longest_silence
from benchmarks.cluster.nats_server import nats_program
from benchmarks.cluster.render import headlines, render
from benchmarks.cluster.speaker import ClusterSpeaker, Told, voice
from benchmarks.harness.processes import Address
from benchmarks.relay.listener import RelayLog
from streamcodec.protocol import Gap, Packet, StreamEnd, StreamStart

HERE, THERE = Address(1, "f"), Address(2, "f")
TIMES = [PACKET_S * at for at in range(1, 101)]


# What was heard ---------------------------------------------------------------------------------------------------------------------


def start(session: str = "s", **said: Any) -> StreamStart:
    told: dict[str, Any] = {"epoch": 0, "first_seq": 0, "live_seq": 0, "start": "primed", **said}
    return StreamStart(n_q=8, bandwidth=6.0, packet_frames=6, format="codes", sample_rate=24_000, session=session, **told)


def packet(seq: int) -> Packet:
    return Packet(seq=seq, epoch=0, timestamp=0, n_q=8, payload=b"p")


def heard(*events: object) -> ClusterEar:
    ear = ClusterEar("a", HERE.url, "f")
    for event in events:
        ear._hear(event)
    return ear


def test_packets_that_neither_came_nor_were_named_are_counted_and_so_are_those_that_came_twice() -> None:
    whole = heard(start(), packet(0), packet(1), Gap(first_seq=2, count=3, reason="link"), packet(5), StreamEnd(next_seq=6, reason="over"))
    assert (whole.unnamed, whole.repeated, whole.told, whole.seqs) == (0, 0, 3, [0, 1, 5])
    assert heard(start(), packet(0), packet(2), packet(3)).unnamed == 1
    assert heard(start(), packet(0), StreamEnd(next_seq=4, reason="over")).unnamed == 3
    assert heard(start(), packet(0), packet(1), packet(1)).repeated == 1


def test_a_new_stream_begins_anywhere_and_a_new_epoch_of_one_does_not() -> None:
    new = heard(start(), packet(0), start("t"), packet(7))
    assert (new.sessions, new.unnamed) == (["s", "t"], 0)
    same = heard(start(), packet(0), start("s", epoch=1, first_seq=3, live_seq=3), packet(3))
    assert (same.sessions, same.unnamed) == (["s"], 2)


def test_silences_and_when_somebody_is_heard_again() -> None:
    ear = ClusterEar("a", HERE.url, "f", came=[1.0, 1.08, 1.1, 3.0, 3.08])
    assert longest_silence(ear.came, 1.05, 2.0) == (1.0, 1.08)
    assert silence_ms(ear, 1.05, 4.0) == pytest.approx(1000 * (1.9 - PACKET_S))
    assert silence_ms(ear, 5.0, 6.0) == 1000, "a span in which nothing came is a silence"
    assert heard_again_s(ear, 1.09) == pytest.approx(1.91)
    assert heard_again_s(ear, 3.1) is None
    assert worst([1.0, 2.0]) == 2.0 and worst([1.0, None]) is None and worst([]) is None


def test_a_publisher_says_the_same_each_time_and_pcm_lies_on_the_wire_s_grid() -> None:
    codes, pcm = voice("codes", 1, 3), voice("pcm", 1, 3)
    assert codes.shape == (8, 18) and pcm.shape == (1440,)
    assert (codes == voice("codes", 1, 4)[:, :18]).all() and (pcm == voice("pcm", 1, 4)[:1440]).all()
    assert (pcm * 32_768 == (pcm * 32_768).round()).all() and not (voice("codes", 2, 3) == codes).all()


# The hop ----------------------------------------------------------------------------------------------------------------------------


def log(late_s: float, *, missing: tuple[int, ...] = (), **said: Any) -> RelayLog:
    seqs = [seq for seq in range(100) if seq not in missing]
    return RelayLog(
        **{"answered": 0.0, "ended": True, "first_live": 0, **said},
        due=array("d", [TIMES[seq] for seq in seqs]),
        late=array("f", [late_s] * len(seqs)),
    )


def hop_figures(other: RelayLog, lost: int = 0) -> dict[str, Any]:
    load = hop.HopLoad(HERE.url, THERE.url, "f", codes=1, pcm=0, hold_s=4.0)
    report = hop.HopReport([(log(0.01), other)], (1.0, 5.0), [0.001])
    return hop.figures_of(load, report, lost, {"nats": 0.1, "origin": 0.2, "other": 0.1})


def test_the_hop_is_by_how_much_later_the_same_packet_came_at_the_other_node() -> None:
    figures = hop_figures(log(0.015))
    assert figures["failures"] == [] and figures["codes"]["packets"] == 50
    assert figures["codes"]["added_ms"]["p99"] == pytest.approx(5.0, abs=0.01)
    assert figures["codes"]["other_late_ms"]["p50"] == pytest.approx(15.0, abs=0.01)
    assert headlines({"hop": figures})[0].ours == "5.0 and 5.0 ms"
    assert "| 1 of codes | 50 | 10.0 | 10.0 | 15.0 | 15.0 | 5.0 | 5.0 | 5.0 |" in render({"hop": figures})


@pytest.mark.parametrize(
    ("other", "lost"),
    [
        (log(0.01, ended=False), 0),
        (log(0.01, unnamed=1, missing=(7,)), 0),
        (log(0.01, told=1, missing=(7,)), 0),
        (log(0.01, differing=1), 0),
        (log(0.01, missing=tuple(range(100))), 0),
        (log(0.01, error="broken"), 0),
        (log(0.01), 2),
    ],
)
def test_each_check_of_the_hop_fails_where_it_should(other: RelayLog, lost: int) -> None:
    assert len(hop_figures(other, lost)["failures"]) == 1


# What goes, and what is left --------------------------------------------------------------------------------------------------------


def talk(name: str = "a", address: Address = HERE, kinds: tuple[str, ...] = ("codes",), **said: Any) -> CompanyTalk:
    """A stream that both nodes have heard as a whole."""
    speaker = ClusterSpeaker(name, address.url, "f", **{"sessions": 1, "ended": True, "begun": 0.0, "over": TIMES[-1], **said})
    made = CompanyTalk(speaker, (HERE, THERE), kinds)
    for ear in made.ears.values():
        ear.came, ear.sessions, ear.ends = list(TIMES), ["s"], [(9.0, "over")]
    return made


def silent(made: CompanyTalk, at: int, begin: float, end: float) -> CompanyTalk:
    ear = made.ears[at, "codes"]
    ear.came = [time for time in TIMES if not begin < time < end]
    return made


def test_a_drain_that_loses_nothing_passes_and_each_check_fails_where_it_should() -> None:
    def failures(made: CompanyTalk, moved: float | None = 3.5) -> list[str]:
        found: list[str] = drain.figures_of([made], 0.0, 3.0, moved, 7.0)["failures"]
        return found

    def whole() -> CompanyTalk:
        return talk(kinds=("codes", "pcm"))

    assert failures(whole()) == []
    assert len(failures(whole(), None)) == 1
    for change in (
        lambda ear: ear.gaps.append((4.0, 1, "link")),
        lambda ear: setattr(ear, "unnamed", 1),
        lambda ear: setattr(ear, "repeated", 1),
        lambda ear: ear.sessions.append("t"),
        lambda ear: ear.ends.clear(),
    ):
        made = whole()
        change(made.ears[1, "pcm"])
        assert len(failures(made)) == 1
    figures = drain.figures_of([silent(whole(), 1, 3.2, 4.0)], 0.0, 3.0, 3.5, 7.0)
    assert figures["silence_ms"]["codes, at the other node"]["drain"] == pytest.approx(720, abs=90)
    assert figures["silence_ms"]["codes, at the other node"]["before"] == pytest.approx(0, abs=1)


def test_a_killed_node_s_publishers_are_heard_again_and_what_was_lost_is_told() -> None:
    def row(made: CompanyTalk) -> tuple[dict[str, Any], list[str]]:
        figures = kills.node_figures([made], 3.0)
        return figures["streams"][0], figures["failures"]

    good = silent(silent(talk(), 0, 3.0, 4.5), 1, 3.0, 4.0)
    found, failures = row(good)
    assert failures == [] and found["again_s"] == pytest.approx(1.0, abs=0.1) and found["again_elsewhere_s"] == pytest.approx(1.5, abs=0.1)
    never = silent(talk(), 1, 3.0, 99.0)
    assert row(never)[0]["again_s"] is None and len(row(never)[1]) == 1
    anew = silent(talk(), 1, 3.0, 4.0)
    anew.ears[1, "codes"].sessions = ["s", "t"]
    assert len(row(anew)[1]) == 1, "nobody was told"
    anew.ears[1, "codes"].ends.append((9.0, "over"))
    anew.speaker.told.append(Told(3.5, "unknown_session", "it is gone"))
    assert row(anew)[1] == [] and row(anew)[0]["publisher"] == [[0.5, "unknown_session", "it is gone"]]


def test_local_streams_may_not_lose_anything_while_nats_is_gone() -> None:
    def figures(made: CompanyTalk) -> dict[str, Any]:
        return kills.nats_figures([made, talk("new")], HERE, 2.0, 4.0, 7.0)

    good = figures(silent(talk(), 1, 2.0, 4.5))
    assert good["failures"] == [] and good["back_s"] == pytest.approx(0.5, abs=0.1) and good["local_lost"] == 0
    lossy = talk()
    lossy.ears[0, "codes"].gaps.append((3.0, 2, "overload"))
    assert len(figures(lossy)["failures"]) == 1 and figures(lossy)["local_lost"] == 2
    remote = talk()
    remote.ears[1, "codes"].gaps.append((4.5, 20, "link"))
    assert figures(remote)["failures"] == [] and figures(remote)["remote_told"] == {"link": 20}
    assert len(figures(silent(talk(), 1, 2.0, 99.0))["failures"]) == 1


def cut_figures(published: tuple[list[str], list[str]], told: dict[str, list[Told]]) -> dict[str, Any]:
    talks = {name: talk(name, THERE if name == "there" else HERE) for name in ("here", "there", "contested", "new")}
    rivals = {name: ClusterSpeaker(name, THERE.url, "f", told=told.get(name, [])) for name in ("contested", "new")}
    return cuts.figures_of(talks, rivals, [{"streams": names} for names in published], HERE, (2.0, 3.0, 3.5, 7.0))


def test_each_name_has_one_publisher_after_a_cut_and_the_other_one_was_told() -> None:
    taken = [Told(3.2, "stream_taken", "another has it")]
    good = cut_figures((["contested", "here", "new"], ["there"]), {"contested": taken, "new": taken})
    assert good["failures"] == [] and good["contested"]["new"]["winner"] == "here" and good["agreed_s"] == 0.5
    assert len(cut_figures((["contested", "here", "new"], ["there"]), {"contested": taken})["failures"]) == 1
    assert len(cut_figures((["contested", "here", "new"], ["new", "there"]), {"contested": taken, "new": taken})["failures"]) == 1
    nobody = cut_figures((["here", "new"], ["there"]), {"contested": taken, "new": taken})
    assert nobody["contested"]["contested"]["winner"] is None and nobody["failures"]


def test_churn_fails_where_packets_are_lost_or_something_is_left() -> None:
    def churn_figures(**changed: Any) -> dict[str, Any]:
        memory = [{"start_mib": 1.0, "end_mib": 2.0, "mib_per_minute": 0.1, "long": True}]
        sound = {"errors": {}, "told": {}, "unnamed": 0, "repeated": 0, "packets": 9, "left": {"links": 0}, "memory": memory}
        return {"mib_per_minute_allowed": 0.5, **sound, **changed}

    assert churning.failures(churn_figures()) == []
    growing = {"start_mib": 1.0, "end_mib": 9.0, "mib_per_minute": 2.0}
    for wrong in (
        {"errors": {"a publisher does not end": 1}},
        {"told": {"link": 1}},
        {"unnamed": 1},
        {"repeated": 1},
        {"packets": 0},
        {"left": {"messages in the store names": 2}},
        {"memory": [{**growing, "long": True}]},
    ):
        assert len(churning.failures(churn_figures(**wrong))) == 1, wrong
    assert churning.failures(churn_figures(memory=[{**growing, "long": False}])) == []


# Tiny runs --------------------------------------------------------------------------------------------------------------------------

TINY = {
    "hop": ["--codes", "2", "--pcm", "1", "--seconds", "0.5"],
    "drain": ["--streams", "1", "--settle-seconds", "0.2", "--after-seconds", "0.5"],
    "kill node, replicated": ["--streams", "1", "--settle-seconds", "1.5", "--after-seconds", "0.2"],
    "kill nats": ["--streams", "1", "--settle-seconds", "0.2", "--after-seconds", "0.2", "--nats-down-seconds", "0.5"],
    "cut network": ["--cut-seconds", "0.5", "--settle-seconds", "0.2", "--after-seconds", "0.2", "--cut", "reset"],
    "copies": ["--copies", "4"],
    "churn": ["--minutes", "0.05", "--places", "2", "--mean-life-seconds", "1"],
}


@needs(nats_program() or "nats-server")
@pytest.mark.parametrize("case", TINY)
def test_a_tiny_run_passes_its_checks_and_tells_what_its_json_says(case: str, tmp_path: Path) -> None:
    words = ["--case", case, *TINY[case], "--engine", "torch", "--model"]
    stands = " ".join([*(f"'{word}'" if " " in word else word for word in words), Path(small_model()).name])
    # A process is killed only where there is one; all else runs in this one, which waits for slow machines.
    section = run_tiny("cluster", [*words, small_model()], tmp_path, stands=stands, here=not case.startswith("kill node"))
    figures = section["cases"][case]["figures"]
    assert figures["failures"] == []
    if case == "drain":
        assert figures["compared"]["entries"] > 0 and figures["compared"]["samples"] > 0
