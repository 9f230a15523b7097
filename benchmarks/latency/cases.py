"""The cases: which network at which second, who listens, and what is asked of the figures."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from benchmarks.harness.sections import Figures
from benchmarks.latency.figures import back_after, median_between
from benchmarks.latency.run import Ear, Setup
from benchmarks.link import Conditions, Direction

__all__ = ["CASES", "Case", "Lengths", "make_case"]

Ears = Mapping[str, Figures]
Runs = Mapping[str, Figures]

_DRIFT_SLACK_S = 0.08
_DELAY_S = 0.01  # of every link, each way
_BACK_WITHIN_S = 5.0
_P99_MOVES_MS = 5.0


@dataclass(frozen=True)
class Lengths:
    """How long what takes, seconds; `during_s` of None is the case's own."""

    loopback_s: float = 600.0
    before_s: float = 10.0
    during_s: float | None = None
    after_s: float = 15.0
    compressed_minutes: float = 60.0


@dataclass(frozen=True)
class Case:
    """Runs by name, what they are about, when it is disturbed (s), and the goals that the figures of all runs are held to."""

    about: str
    runs: dict[str, Setup]
    goals: Callable[[Runs], list[Figures]]
    disturbed: tuple[float, float] | None = None
    compressed_minutes: float = 0.0
    quality: bool = False
    ppm: tuple[float, ...] = field(default=())


Maker = Callable[[str, Lengths], Case]


def goal(what: str, found: float | None, unit: str, most: float) -> Figures:
    """A figure that is to be at most `most`; None is a figure that never came about."""
    return {"goal": what, "found": found, "unit": unit, "most": most, "met": found is not None and found <= most}


def _loopback(frames: int) -> Maker:
    def make(name: str, lengths: Lengths) -> Case:
        def goals(runs: Runs) -> list[Figures]:
            ear = _ear(runs, name, "listener")
            added = ear["stages_ms"]["added"]
            return [
                goal("added latency, p50", added["p50"], "ms", 10.0),
                goal("added latency, p99", added["p99"], "ms", 25.0),
                goal("packets missing", ear["missing"], "", 0),
                goal("underruns", ear["underruns"], "", 0),
            ]

        setup = Setup(lengths.loopback_s, (Ear("listener"),), packet_frames=frames)
        return Case(
            f"One publisher, one listener, no network between them, packets of {1000 * setup.packet_s:.1f} ms.", {name: setup}, goals
        )

    return make


def _stall(seconds: float) -> Maker:
    def make(name: str, lengths: Lengths) -> Case:
        begin, end = lengths.before_s, lengths.before_s + seconds
        total = end + lengths.after_s

        def setup(*stalls: tuple[float, float]) -> Setup:
            behind = Conditions(Direction(_DELAY_S), Direction(_DELAY_S, stalls=stalls))
            return Setup(total, (Ear("behind it", behind), Ear("beside it", Conditions(Direction(_DELAY_S), Direction(_DELAY_S)))))

        def goals(runs: Runs) -> list[Figures]:
            ear = _ear(runs, name, "behind it")
            calm, beside = (_ear(runs, run, "beside it")["stages_ms"]["decoded"]["p99"] for run in ("calm", name))
            return [
                goal("delay is back after", back_after(ear["course"], _packet_s(runs, name), begin, end), "s", _BACK_WITHIN_S),
                goal("packets missing and not told", _untold(ear), "", 0),
                goal("p99 until decoded of the listener beside it, against the calm run's", beside - calm, "ms", _P99_MOVES_MS),
            ]

        about = f"The link to one of two listeners stands still for {seconds:g} s; the other's does not. The same without the stall: calm."
        return Case(about, {"calm": setup(), name: setup((begin, end))}, goals, (begin, end))

    return make


def _on_one_link(about: str, default_s: float, down: Callable[[float, float], Direction], kbps: float = 6.0) -> Maker:
    def make(name: str, lengths: Lengths) -> Case:
        begin, end = lengths.before_s, lengths.before_s + (lengths.during_s or default_s)
        ear = Ear("listener", Conditions(Direction(_DELAY_S), down(begin, end)), bandwidth=kbps)

        def goals(runs: Runs) -> list[Figures]:
            found = _ear(runs, name, "listener")
            return [
                goal("delay is back after", back_after(found["course"], _packet_s(runs, name), begin, end), "s", _BACK_WITHIN_S),
                goal("packets missing and not told", _untold(found), "", 0),
            ]

        return Case(about, {name: Setup(end + lengths.after_s, (ear,), bandwidth=kbps)}, goals, (begin, end))

    return make


def _jitter(ms: float) -> Maker:
    def down(begin: float, end: float) -> Direction:
        return Direction(_DELAY_S, jitters=((begin, ms / 1000), (end, 0.0)), seed=1)

    return _on_one_link(f"Every 10 ms the link to the listener takes another 0 to {ms:g} ms more, for a while.", 15.0, down)


def _narrow(begin: float, end: float) -> Direction:
    return Direction(_DELAY_S, rates=((begin, 1000.0), (end, None)))


def _drift(name: str, lengths: Lengths) -> Case:
    ppm = (200.0, -200.0)
    names = {value: f"{value:+g} ppm" for value in ppm}
    settled = min(30.0, lengths.loopback_s / 4)
    stretch = min(60.0, lengths.loopback_s / 4)

    def goals(runs: Runs) -> list[Figures]:
        found = []
        for label in names.values():
            ear = _ear(runs, name, label)
            begin = median_between(ear["course"], "delay_ms", settled, settled + stretch)
            end = median_between(ear["course"], "delay_ms", lengths.loopback_s - stretch, lengths.loopback_s)
            found += [
                goal(f"{label}: delay at the end against the start", abs(end - begin), "ms", 5.0),
                goal(f"{label}: underruns", ear["underruns"], "", 0),
            ]
        for played in runs[name].get("compressed", []):
            label = f"{played['drift_ppm']:+g} ppm, {played['minutes']:g} min of made-up time"
            delays = played["delay_ms"]
            # The first part is where the playout learns the drift.
            found += [
                goal(f"{label}: delay at the end against the start", abs(delays[-1] - delays[len(delays) // 30]), "ms", 5.0),
                goal(f"{label}: underruns", played["underruns"], "", 0),
            ]
        return found

    # What a shared machine holds up now and then is not to be taken for what the clocks do.
    ears = tuple(Ear(label, drift_ppm=value, slack_s=_DRIFT_SLACK_S) for value, label in names.items())
    about = f"Two listeners on loopback whose devices' clocks are fast and slow, at `--slack-ms {1000 * _DRIFT_SLACK_S:g}`."
    return Case(about, {name: Setup(lengths.loopback_s, ears)}, goals, compressed_minutes=lengths.compressed_minutes, ppm=ppm)


def _reset(_: str, lengths: Lengths) -> Case:
    begin, end = lengths.before_s, lengths.before_s + (lengths.during_s or 0.5)
    total = end + lengths.after_s
    cut = Conditions(Direction(_DELAY_S), Direction(_DELAY_S), ((begin, end),))

    def goals(runs: Runs) -> list[Figures]:
        found = []
        for run in runs:
            ear = _ear(runs, run, "listener")
            found += [
                goal(f"{run}: delay is back after", back_after(ear["course"], _packet_s(runs, run), begin, end), "s", _BACK_WITHIN_S),
                goal(f"{run}: packets missing", ear["missing"], "", 0),
            ]
        return found

    runs = {"listener cut": Setup(total, (Ear("listener", cut),)), "publisher cut": Setup(total, (Ear("listener"),), mouth=cut)}
    return Case(f"The connection is reset and comes back {end - begin:g} s later.", runs, goals, (begin, end))


def _shrink(name: str, lengths: Lengths) -> Case:
    begin, end = lengths.before_s, lengths.before_s + (lengths.during_s or 20.0)
    down = Direction(_DELAY_S, rates=((begin, 1500.0), (end, None)))
    link = Conditions(Direction(_DELAY_S), down)
    ears = (Ear("adaptive", link, bandwidth=24.0, min_bandwidth=1.5), Ear("fixed", link, bandwidth=24.0))

    def goals(runs: Runs) -> list[Figures]:
        found = []
        for label in ("adaptive", "fixed"):
            ear = _ear(runs, name, label)
            found += [
                goal(f"{label}: delay is back after", back_after(ear["course"], _packet_s(runs, name), begin, end), "s", _BACK_WITHIN_S),
                goal(f"{label}: packets missing and not told", _untold(ear), "", 0),
            ]
        return found

    about = (
        "Two listeners of 24 kbps, one of which may be given less down to 1.5 kbps, each behind a link that carries 12 kbit/s for a while."
    )
    return Case(about, {name: Setup(end + lengths.after_s, ears, bandwidth=24.0, keep=True)}, goals, (begin, end), quality=True)


CASES: dict[str, Maker] = {
    "loopback": _loopback(6),
    "loopback-13": _loopback(1),
    "loopback-27": _loopback(2),
    "stall-0.5": _stall(0.5),
    "stall-1": _stall(1.0),
    "stall-2": _stall(2.0),
    "stall-5": _stall(5.0),
    "jitter-50": _jitter(50),
    "jitter-200": _jitter(200),
    "narrow": _on_one_link("The link to a listener of 24 kbps carries 8 kbit/s for a while.", 10.0, _narrow, 24.0),
    "drift": _drift,
    "reset": _reset,
    "shrink": _shrink,
}


def make_case(name: str, lengths: Lengths) -> Case:
    """The case of that name."""
    return CASES[name](name, lengths)


def _ear(runs: Runs, run: str, name: str) -> Figures:
    found: Figures = next(ear for ear in runs[run]["ears"] if ear["name"] == name)
    return found


def _packet_s(runs: Runs, run: str) -> float:
    return float(runs[run]["packet_ms"]) / 1000


def _untold(ear: Figures) -> int:
    return max(0, int(ear["missing"]) - int(ear["told_missing"]))
