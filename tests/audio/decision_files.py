"""The decisions of the playout on shared arrivals, as files that a playout in another language compares itself with.

`python tests/audio/decision_files.py` writes them anew; a test keeps them what the code makes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from playout_rig import BLOCK_S, DEVICE_RATE, LOW_RATES, PACKET_S, RATE, play

__all__ = ["FILES", "FOLDER", "sound_of", "text_of"]

FOLDER = Path(__file__).parent / "traces"
STATS = (
    "target_s",
    "margin_s",
    "buffered_s",
    "underruns",
    "jumps",
    "dropped_s",
    "shortened_s",
    "lengthened_s",
    "steering",
    "late_s",
    "comfort_s",
)
_HEARD_EVERY = 1201


def sound_of(seconds: float, rate: int) -> NDArray[np.float32]:
    """Harmonics of a gliding voice that swells and falls silent: the formula is all that another language needs."""
    t = np.arange(round(seconds * rate)) / rate
    phase = 2 * np.pi * 120 * t - 60 * np.cos(np.pi * t)
    voice = sum(np.sin(k * phase) / k for k in range(1, 9))
    return np.asarray(0.2 * np.maximum(0.0, np.sin(2 * np.pi * 0.35 * t)) * voice, np.float32)


def _decisions(
    arrived: list[float],
    captured: list[float],
    rates: tuple[int, int],
    device_ppm: float = 0.0,
    decoding: list[float] | None = None,
    quiet: list[bool] | None = None,
    left_out: list[bool] | None = None,
) -> dict[str, Any]:
    rate, device_rate = rates
    count = len(arrived)
    decoding, quiet, left_out = decoding or [0.0] * count, quiet or [False] * count, left_out or [False] * count
    course = play(
        sound_of(count * PACKET_S, rate),
        lambda _: arrived,
        rates=rates,
        device_ppm=device_ppm,
        captured=captured,
        decoding=decoding,
        quiet=quiet.__getitem__,
        left_out=left_out.__getitem__,
    )
    return {
        "rate_in": rate,
        "rate_out": device_rate,
        "packet_s": PACKET_S,
        "block_s": BLOCK_S,
        "device_ppm": device_ppm,
        "packets": [
            {"arrived": round(a, 6), "captured": round(c, 6), "decoding_s": d, "quiet": q, "left_out": gone}
            for a, c, d, q, gone in zip(arrived, captured, decoding, quiet, left_out, strict=True)
        ],
        "stats": list(STATS),
        "decisions": [[round(float(getattr(stats, name)), 9) for name in STATS] for stats in course.stats],
        "heard_every": _HEARD_EVERY,
        # The noise of pauses is random.
        "heard": None if any(quiet) else [round(float(sample), 5) for sample in course.heard[::_HEARD_EVERY]],
    }


def _recorded(name: str) -> dict[str, Any]:
    arrived, captured = np.loadtxt(FOLDER / f"{name}.txt", dtype=np.int64).T / 1e6
    return _decisions(arrived.tolist(), captured.tolist(), LOW_RATES)


def _pauses() -> dict[str, Any]:
    """Half a minute with pauses of which one packet in ten is sent, on a device whose clock is fast, with a decoder that stalls."""
    count = 375
    captured = [round((i + 1) * PACKET_S, 6) for i in range(count)]
    arrived = [round(c + 0.01 + 0.004 * ((7 * i) % 5), 6) for i, c in enumerate(captured)]
    sound = sound_of(count * PACKET_S, RATE).reshape(count, -1)
    quiet = [not packet.any() for packet in sound]
    left_out = [q and i % 10 != 0 and quiet[max(0, i - 1)] for i, q in enumerate(quiet)]
    decoding = [0.06 if i % 50 == 49 else 0.005 for i in range(count)]
    return _decisions(arrived, captured, (RATE, DEVICE_RATE), 300.0, decoding, quiet, left_out)


FILES: dict[str, Callable[[], dict[str, Any]]] = {
    "loaded.json": lambda: _recorded("loaded"),
    "stopped.json": lambda: _recorded("stopped"),
    "pauses.json": _pauses,
}


def text_of(made: dict[str, Any]) -> str:
    """JSON with one packet, and one decision, a line."""
    lines = []
    for key, value in made.items():
        if isinstance(value, list) and value and isinstance(value[0], (list, dict)):
            told = "[\n" + ",\n".join(f"  {json.dumps(one)}" for one in value) + "\n ]"
        else:
            told = json.dumps(value)
        lines.append(f' "{key}": {told}')
    return "{\n" + ",\n".join(lines) + "\n}\n"


if __name__ == "__main__":
    for name, make in FILES.items():
        (FOLDER / name).write_text(text_of(make()), encoding="utf-8")
