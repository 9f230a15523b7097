"""What is measured of talks whose silence is thinned: bytes, levels, steps, and what the decoder remembers of a pause."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.dtx.talks import Sent, noise
from benchmarks.harness.sections import Figures
from streamcodec.types import Samples

__all__ = ["PAIRS", "SPEECH_DB", "STEP_MS", "WANTED_DB", "figures_of", "spectral_distance", "trace"]

Numbers = npt.NDArray[np.float64]

WANTED_DB = 30.0
SPEECH_DB = -40.0
STEP_MS = 20
PAIRS = (("fewer", "every"), ("every", "sound"), ("fewer", "sound"))

_BEST_DB = 120.0
_INAUDIBLE_DB = -80.0
_WINDOW, _HOP = 512, 128
_AFTER_MS = 1000
_TRACE_S = 16.0


def figures_of(noise_db: float | None, sent: list[Sent], seed: int) -> Figures:
    """What is said of some talks in one room: one row of each table."""
    seconds = sum(len(one.sound) / one.rate for one in sent)
    quiet = np.concatenate([one.quiet for one in sent])
    pauses = [(one, first, end) for one in sent for first, end in one.pauses]
    returns = [(one, first) for one in sent for first, _ in one.returns]
    behind = [found for one in sent for run in one.returns if np.isfinite(found := _behind(one, *run)).any()]
    kinds = {what: np.concatenate([getattr(one, what) for one in sent], axis=1) for what in ("payload", "message", "wire")}
    row: Figures = {
        "noise_db": noise_db,
        "seconds": seconds,
        "packets": len(quiet),
        "quiet_share": float(quiet.mean()),
        "sent_share": float(np.concatenate([one.sent for one in sent])[quiet].mean()) if quiet.any() else None,
        **{f"{what}_kbps": (8 * sizes.sum(axis=1) / 1000 / seconds).tolist() for what, sizes in kinds.items()},
        "bytes": {what: sizes[:, quiet].mean(axis=1).tolist() for what, sizes in kinds.items()} if quiet.any() else None,
        "comfort_db": _spread([louder for one, *run in pauses if (louder := _comfort_db(one, *run)) is not None]),
        "pauses": len(pauses),
        "returns": len(behind),
        "difference_db": _spread([_db(one.cut(one.fewer, *run)) - _db(one.cut(one.every, *run)) for one, *run in pauses]),
        "step_in_db": _spread([_step(one, first) for one, first, _ in pauses if first]),
        "step_out_db": _spread([_step(one, first) for one, first in returns]),
        "snr_first_db": _spread([float(found[np.isfinite(found)][0]) for found in behind]),
        "snr_db": _spread([float(np.nanmedian(found)) for found in behind]),
        "own_snr_db": float(np.nanmedian(np.concatenate([_snr(one.sound, one.sound, one.every, one.rate) for one in sent]))),
        "back_ms": _spread([_back_ms(found) for found in behind]),
        "below_share": float(np.mean([value < WANTED_DB for found in behind for value in found[np.isfinite(found)]])) if behind else None,
        "behind_db": _curves(behind),
    }
    for name in ("sound", "every", "fewer"):
        parts = [one.cut(getattr(one, name), *run) for one, *run in pauses]
        row[f"level_db_{name}"] = _db(np.concatenate(parts)) if parts else None
    for a, b in PAIRS:
        apart = [spectral_distance(one.cut(getattr(one, a), *run), one.cut(getattr(one, b), *run)) for one, *run in pauses]
        row[f"distance_db_{a}_{b}"] = float(np.mean(apart)) if apart else None
    if noise_db is not None:
        takes = [noise(4 * sent[0].rate, sent[0].rate, noise_db, seed + other) for other in (100, 101)]
        row["distance_db_takes"] = spectral_distance(takes[0], takes[1])
    return row


def trace(sent: Sent, noise_db: float | None) -> Figures:
    """Levels by packet, for the picture."""
    packets = range(min(len(sent.quiet), round(_TRACE_S * sent.rate / sent.size)))
    levels = {name: [round(_db(sent.cut(getattr(sent, name), i, i + 1)), 1) for i in packets] for name in ("sound", "every", "fewer")}
    return {"noise_db": noise_db, "packet_s": sent.size / sent.rate, "quiet": sent.quiet[: len(packets)].tolist(), **levels}


def _db(samples: Samples) -> float:
    """The level in dBFS; digital silence is at -120."""
    return float(10 * np.log10(np.mean(np.square(samples, dtype=np.float64)) + 1e-12))


def _comfort_db(sent: Sent, first: int, end: int) -> float | None:
    """By how much what was left out of packets `first` to `end` - 1 is louder than what was sent, dB; None where one is missing."""
    numbers = np.arange(first, end)
    heard = [[sent.cut(sent.fewer, i, i + 1) for i in numbers[sent.sent[first:end] == kind]] for kind in (False, True)]
    return _db(np.concatenate(heard[0])) - _db(np.concatenate(heard[1])) if all(heard) else None


def _spread(values: Sequence[float]) -> dict[str, float] | None:
    """The mean, percentiles and extremes; None of nothing."""
    if not values:
        return None
    low, median, high = np.percentile(values, (5, 50, 95)).tolist()
    return {"mean": float(np.mean(values)), "p5": low, "median": median, "p95": high, "least": min(values), "most": max(values)}


def _step(sent: Sent, at: int) -> float:
    """How much more the level changes where packet `at` begins than it does with all codebooks, dB, over a packet on each side."""
    before, after = (_db(sent.cut(sent.fewer, i, i + 1)) - _db(sent.cut(sent.every, i, i + 1)) for i in (at - 1, at))
    return after - before


def _behind(sent: Sent, first: int, end: int) -> Numbers:
    """SNR in dB of `fewer` against `every` in each 20 ms of packets `first` to `end` - 1; NaN where nobody speaks."""
    sound, every, fewer = (sent.cut(x, first, end) for x in (sent.sound, sent.every, sent.fewer))
    return _snr(sound, every, fewer, sent.rate)


def _snr(sound: Samples, reference: Samples, other: Samples, rate: int) -> Numbers:
    """SNR in dB of `other` [T] against `reference` [T] in each 20 ms; NaN where `sound` [T] is no speech."""
    step = rate * STEP_MS // 1000
    steps = len(sound) // step
    error = other.astype(np.float64) - reference
    powers = [np.square(x[: steps * step], dtype=np.float64).reshape(steps, step).mean(axis=1) for x in (sound, reference, error)]
    snr = 10 * np.log10(np.maximum(powers[1], 1e-30) / np.maximum(powers[2], 1e-30))
    return np.where(powers[0] >= 10 ** (SPEECH_DB / 10), np.minimum(snr, _BEST_DB), np.nan)


def _back_ms(behind: Numbers) -> float:
    """From when on the speech stays at the wanted SNR or above, ms behind the pause's end; 0 where it always is."""
    below = np.flatnonzero(behind < WANTED_DB)
    return float(STEP_MS * (below[-1] + 1)) if below.size else 0.0


def _curves(behind: list[Numbers]) -> dict[str, list[float | None]]:
    """The median and the worst SNR in each 20 ms of the first second behind the pauses; None where nobody ever speaks."""
    length = _AFTER_MS // STEP_MS
    padded = np.array([np.pad(found[:length], (0, length - len(found[:length])), constant_values=np.nan) for found in behind])
    columns = [column[np.isfinite(column)] for column in padded.reshape(-1, length).T]
    take: dict[str, Any] = {"median": np.median, "worst": np.min}
    return {name: [float(of(column)) if column.size else None for column in columns] for name, of in take.items()}


def spectral_distance(a: Samples, b: Samples) -> float:
    """Log-spectral distance of two sounds [T], dB: RMS over frequency of the difference in level, 21 ms at a time, averaged over time.

    What is below a noise of -80 dBFS in both is no difference.
    """
    window = np.hanning(_WINDOW)
    floor = 10 ** (_INAUDIBLE_DB / 10) * np.sum(window**2)
    levels = []
    for samples in (a, b):
        frames = np.lib.stride_tricks.sliding_window_view(samples.astype(np.float64), _WINDOW)[::_HOP]
        levels.append(10 * np.log10(np.abs(np.fft.rfft(frames * window, axis=1)) ** 2 + floor))
    return float(np.mean(np.sqrt(np.mean((levels[0] - levels[1]) ** 2, axis=1))))
