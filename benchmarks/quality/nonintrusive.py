"""Predictors of listeners' scores that hear an output alone: no training here has followed any of them.

Each is a model inside a package, so all of them work offline.
"""

from __future__ import annotations

import contextlib
import io
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.imports import without_torchaudio
from streamcodec.audio import resample
from streamcodec.types import Samples

__all__ = ["distillmos", "dnsmos", "plcmos"]

_RATE = 16_000  # what all of them hear

# Raw outputs to MOS, as speechmos maps them (signal and background are not reported).
_DNSMOS_OVERALL = np.poly1d([-0.06766283, 1.11546468, 0.04602535])
_DNSMOS_S = 9.01
_PLCMOS_RATERS = 15


def dnsmos(output: Samples, rate: int) -> float:
    """The P.835 model on windows of 9.01 s, one second apart, the clip repeated to fill the first: what `speechmos.dnsmos.run` does."""
    heard = _heard(output, rate)
    window = int(_DNSMOS_S * _RATE)
    while len(heard) < window:
        heard = np.append(heard, heard)
    starts = range(int(len(heard) // _RATE - _DNSMOS_S) + 1)
    parts = [heard[int(at * _RATE) : int((at + _DNSMOS_S) * _RATE)] for at in starts]
    session = _session("dnsmos_models/sig_bak_ovr.onnx")
    raw = [session.run(None, {"input_1": part[None].astype(np.float32)})[0][0][2] for part in parts if len(part) >= window]
    return float(np.mean(_DNSMOS_OVERALL(np.asarray(raw, np.float64))))


def plcmos(output: Samples, rate: int) -> float:
    """PLCMOS version 2 (Diener et al., 2023), which was made to hear what packet loss leaves; the mean over 15 raters.

    The package draws its raters anew for each clip; here they are always the same, so that a score can be had again.
    """
    heard = _heard(output, rate)
    frame, hop = 512, 256
    padded = np.concatenate([np.zeros(frame - hop), heard, np.zeros(-len(heard) % hop + frame)])
    count = -(-(len(heard) + frame - hop) // hop)
    frames = np.lib.stride_tricks.sliding_window_view(padded, frame)[::hop][:count] * np.hamming(frame + 1)[:-1]
    power = np.abs(np.fft.rfft(frames)) ** 2
    least = power[power > 0.0].min() * 10.0**-12
    features = (np.log(np.maximum(power, least)) / 20.0).astype(np.float32)[None, None]
    raters = np.random.default_rng(0).standard_normal((_PLCMOS_RATERS, 1, 64)).astype(np.float32)
    session = _session("plcmos_models/plcmos_v2.onnx")
    return float(np.mean([session.run(None, {"degraded_audio": features, "rater_embed": rater})[0] for rater in raters]))


def distillmos(output: Samples, rate: int) -> float:
    """Distill-MOS (Stahl and Gamper, 2025): a small network that learnt from a large one of self-supervised speech features."""
    import torch

    heard = torch.from_numpy(_heard(output, rate).astype(np.float32))[None]
    with torch.no_grad():
        return float(_distillmos()(heard))


def _heard(output: Samples, rate: int) -> npt.NDArray[np.float64]:
    return np.clip(resample(output, rate, _RATE), -1.0, 1.0).astype(np.float64)


@cache
def _session(name: str) -> Any:
    import onnxruntime

    # The package's own modules need librosa for one of its models: only files are taken from it.
    spec = find_spec("speechmos")
    assert spec is not None
    assert spec.submodule_search_locations
    path = Path(spec.submodule_search_locations[0]) / name
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


@cache
def _distillmos() -> Any:
    with without_torchaudio(), contextlib.redirect_stdout(io.StringIO()):  # it says where its weights are
        from distillmos import ConvTransformerSQAModel

        return ConvTransformerSQAModel().eval()
