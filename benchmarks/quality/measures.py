"""How far one clip at 24 kHz is from another: every quality measure that the benchmarks use, each with its source and its range.

What training measures too is measured by training's own functions. A score that is not defined for a pair (silence, too short) is named,
never left out silently; a measure whose package is not installed is named as well.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from importlib import metadata
from typing import Any

import numpy as np
import torch

from benchmarks.quality import nonintrusive
from streamcodec.audio import resample
from streamcodec.errors import InputError
from streamcodec.training.evaluate import perceived
from streamcodec.training.losses.spectral import SpectralLoss, si_sdr
from streamcodec.types import Samples

__all__ = [
    "LEARNT_BY",
    "MEASURES",
    "RATE",
    "Mean",
    "Measure",
    "Scores",
    "align",
    "check_rate",
    "differences",
    "mean",
    "means",
    "measure",
    "missing",
    "plain",
    "scorers",
    "versions",
]


RATE = 24_000

_SILENT_DB = -70.0
_SHORTEST_S = 0.25
_WIDEBAND = 16_000
_RESAMPLES = 10_000


@dataclass(frozen=True)
class Measure:
    """A measure's title, unit, range as its source states it, and whether more is better; `needs` are the packages it takes.

    `learnt_by` says that it, or a model of it, is among the losses of training: what learns by a measure cannot be judged by it alone.
    """

    title: str
    unit: str
    range: str
    source: str
    digits: int
    higher_is_better: bool = True
    needs: tuple[str, ...] = ()
    learnt_by: bool = False

    @property
    def heading(self) -> str:
        """The title as tables have it: a double dagger says that training learns by it."""
        return self.title + (" ‡" if self.learnt_by else "")


MEASURES: dict[str, Measure] = {
    "sisdr": Measure("SI-SDR", "dB", "any number; identical clips give what float32 leaves", "Le Roux et al., 2019", 2, learnt_by=True),
    "mel": Measure(
        "log-mel distance",
        "nepers",
        "0 and up; training's mean over four STFT windows",
        "Défossez et al., 2022",
        3,
        False,
        learnt_by=True,
    ),
    "pesq": Measure("PESQ-WB", "MOS-LQO", "1.0 to 4.64", "ITU-T P.862.2, package pesq", 3, needs=("pesq",), learnt_by=True),
    "stoi": Measure("STOI", "", "0 to 1", "Taal et al., 2011, package pystoi", 3, needs=("pystoi",), learnt_by=True),
    "visqol": Measure(
        "ViSQOL speech",
        "MOS-LQO",
        "1 to 5; identical clips give about 4.5 to 4.8",
        "Chinen et al., 2020, package visqol-python, lattice mapping",
        3,
        needs=("visqol-python", "ai-edge-litert"),
        learnt_by=True,
    ),
    "dnsmos": Measure(
        "DNSMOS overall",
        "MOS",
        "1 to 5; hears the output alone",
        "Reddy et al., 2022 (P.835), the model in package speechmos",
        3,
        needs=("speechmos", "onnxruntime"),
    ),
    "plcmos": Measure(
        "PLCMOS",
        "MOS",
        "1 to 5; hears the output alone",
        "Diener et al., 2023, version 2, the model in package speechmos",
        3,
        needs=("speechmos", "onnxruntime"),
    ),
    "distillmos": Measure(
        "Distill-MOS",
        "MOS",
        "1 to 5; hears the output alone",
        "Stahl and Gamper, 2025, package distillmos",
        3,
        needs=("distillmos",),
    ),
}
LEARNT_BY = "‡ training learns by it, or by a model of it, so it can no longer judge alone"


@dataclass(frozen=True)
class Scores:
    """One pair's scores by measure, and why the others have none."""

    values: dict[str, float]
    undefined: dict[str, str]


def check_rate(rate: int) -> None:
    """Refuse a model at any other rate than the measures' own, 24 kHz, with an `InputError`."""
    if rate != RATE:
        raise InputError(f"the model is at {rate} Hz: quality is measured at {RATE} Hz only")


def missing(names: Iterable[str]) -> dict[str, str]:
    """Which of these measures cannot be taken here, and the packages that they lack."""
    lacking = {name: [package for package in MEASURES[name].needs if _version(package) is None] for name in names}
    return {name: f"{' and '.join(packages)} not installed" for name, packages in lacking.items() if packages}


def versions(names: Iterable[str]) -> dict[str, str]:
    """The packages that score these measures, as far as they are installed."""
    packages = dict.fromkeys(package for name in names for package in MEASURES[name].needs)
    return {package: version for package in packages if (version := _version(package))}


def scorers(versions: Mapping[str, str]) -> str:
    """What `versions` found, as a section's text names it."""
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _version(package: str) -> str | None:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def measure(names: Sequence[str], original: Samples, output: Samples) -> Scores:
    """Score `output` against `original`, both [T] at 24 kHz; the shorter one's length counts."""
    length = min(len(original), len(output))
    original, output = original[:length], output[:length]
    undefined = missing(names)
    wanted = [name for name in names if name not in undefined]
    if reason := _unfit(original, output):
        return Scores({}, undefined | dict.fromkeys(wanted, reason))
    values: dict[str, float] = {}
    for covers, take in _INSTRUMENTS.items():
        if asked := [name for name in covers if name in wanted]:
            for name, found in take(original, output).items():
                if name not in asked:
                    continue
                if isinstance(found, str):
                    undefined[name] = found
                elif not np.isfinite(found):
                    undefined[name] = "no number"
                else:
                    values[name] = found
    return Scores({name: values[name] for name in names if name in values}, undefined)


def _unfit(original: Samples, output: Samples) -> str | None:
    if len(original) < _SHORTEST_S * RATE:
        return f"shorter than {_SHORTEST_S:g} s"
    for name, samples in (("original", original), ("output", output)):
        if not np.isfinite(samples).all():
            return f"{name} is not finite"
        if 10 * np.log10(np.mean(samples.astype(np.float64) ** 2) + 1e-20) < _SILENT_DB:
            return f"{name} is silent"
    return None


# The instruments ---------------------------------------------------------------------------------------------------------------------

Found = dict[str, float | str]


def _sisdr(original: Samples, output: Samples) -> Found:
    x, y = (torch.from_numpy(samples.astype(np.float64))[None] for samples in (original, output))
    return {"sisdr": float(si_sdr(y, x))}


@torch.no_grad()
def _mel(original: Samples, output: Samples) -> Found:
    x, y = (torch.from_numpy(np.ascontiguousarray(samples))[None] for samples in (original, output))
    return {"mel": float(_spectral()(y, x).mel)}


@cache
def _spectral() -> SpectralLoss:
    return SpectralLoss(RATE)


def _perceived(original: Samples, output: Samples) -> Found:
    """PESQ and STOI: training leaves out what holds no utterance, and pystoi says 1e-5 for a clip with too little speech."""
    from pesq import PesqError

    try:
        found: Found = dict(perceived([original], [output], RATE))
    except PesqError as error:
        return dict.fromkeys(("pesq", "stoi"), f"PESQ: {type(error).__name__}")
    found.setdefault("pesq", "PESQ found no utterance")
    if isinstance(value := found.get("stoi"), float) and value <= 1e-5:
        found["stoi"] = "too little speech for STOI"
    return found


def _visqol(original: Samples, output: Samples) -> Found:
    pair = [resample(samples, RATE, _WIDEBAND).astype(np.float64) for samples in (original, output)]
    try:
        return {"visqol": float(_visqol_api().measure_from_arrays(*pair, _WIDEBAND).moslqo)}
    except (ValueError, RuntimeError, IndexError) as error:
        return {"visqol": f"ViSQOL: {error}"}


@cache
def _visqol_api() -> Any:
    from visqol import VisqolApi

    api = VisqolApi()
    api.create(mode="speech", use_lattice_model=True)
    return api


def _alone(take: Callable[[Samples, int], float], name: str) -> Callable[[Samples, Samples], Found]:
    return lambda _original, output: {name: take(output, RATE)}


_INSTRUMENTS: dict[tuple[str, ...], Callable[[Samples, Samples], Found]] = {
    ("sisdr",): _sisdr,
    ("mel",): _mel,
    ("pesq", "stoi"): _perceived,
    ("visqol",): _visqol,
    ("dnsmos",): _alone(nonintrusive.dnsmos, "dnsmos"),
    ("plcmos",): _alone(nonintrusive.plcmos, "plcmos"),
    ("distillmos",): _alone(nonintrusive.distillmos, "distillmos"),
}


# Over many clips ---------------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Mean:
    """A mean over `count` clips, its 95% interval, and the largest magnitude among them."""

    mean: float
    low: float
    high: float
    most: float
    count: int


def mean(values: Sequence[float]) -> Mean | None:
    """The mean and its 95% interval, by bootstrap over the clips (10,000 resamples, always the same ones); None for no values."""
    if not values:
        return None
    array = np.asarray(values, np.float64)
    drawn = np.random.default_rng(0).integers(0, len(array), (_RESAMPLES, len(array)))
    low, high = np.percentile(array[drawn].mean(axis=1), (2.5, 97.5))
    return Mean(float(array.mean()), float(low), float(high), float(array[np.abs(array).argmax()]), len(array))


def means(names: Iterable[str], scores: Sequence[Scores]) -> dict[str, dict[str, Any] | None]:
    """Each measure's mean over the clips that have it, as plain values."""
    return {name: plain(mean([score.values[name] for score in scores if name in score.values])) for name in names}


def plain(found: Mean | None) -> dict[str, Any] | None:
    """A mean as a section's JSON holds it."""
    return None if found is None else asdict(found)


def differences(name: str, scores: Sequence[Scores], against: Sequence[Scores]) -> list[float]:
    """Each clip's score less its score `against`, of the clips that have both."""
    pairs = zip(scores, against, strict=True)
    return [a.values[name] - b.values[name] for a, b in pairs if name in a.values and name in b.values]


def align(output: Samples, original: Samples, max_s: float = 0.02) -> tuple[Samples, int]:
    """`output` shifted by the lag at which it correlates best with `original`, up to `max_s` seconds either way; the lag in samples."""
    most, length = round(max_s * RATE), len(original)
    padded = np.zeros(length + 2 * most, np.float64)
    padded[most : most + min(length + most, len(output))] = output[: length + most]
    size = 1 << int(np.ceil(np.log2(len(padded) + length)))
    spectrum = np.fft.rfft(padded, size) * np.conj(np.fft.rfft(original.astype(np.float64), size))
    lag = int(np.argmax(np.fft.irfft(spectrum, size)[: 2 * most + 1]))
    return padded[lag : lag + length].astype(np.float32), lag - most
