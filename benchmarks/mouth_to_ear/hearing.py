"""What was heard beside what was said: how much later, and how alike. This file knows samples, no devices."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from benchmarks.mouth_to_ear.virtual_sound import RATE, Talk
from streamcodec.audio import resample
from streamcodec.codec import Codec

__all__ = ["Hearing", "delays", "hear"]

Audio = npt.NDArray[np.float32]

_SPEECH_POWER = 1e-4  # -40 dB of full scale: a quieter half second is a pause
_PART_S = 10.0
_EARLIEST_S, _LATEST_S = -0.1, 1.0  # where a delay is looked for, besides the slack


@dataclass(frozen=True)
class Hearing:
    """What an ear heard of a talk. Times are in seconds; `captured_s` is when the microphone's program heard the room's first sample."""

    delay_s: float
    worst_delay_s: float
    correlation: float
    stoi: float
    intact_s: float
    captured_s: float


def hear(talk: Talk, captured: Audio, rate: int, codec: Codec, slack_s: float) -> Hearing:
    """Compare the ear's recording with the room's, and with what the codec makes of what was `captured` [T] at `rate` Hz.

    The delay is looked for up to a second and `slack_s`. Raises `RuntimeError` where nothing was said.
    """
    found = delays(talk.told, talk.heard, talk.offset_s, _LATEST_S + slack_s)
    if not found:
        raise RuntimeError("the virtual room was silent: nothing was played into it, or not recorded")
    delay_s = float(np.median([delay for delay, _ in found]))
    captured_s = lag(talk.told, resample(captured, rate, RATE))[0] / RATE
    stoi, intact_s = likeness(
        offline(captured, rate, codec), resample(talk.heard, RATE, 24_000), (delay_s - talk.offset_s - captured_s) * 24_000
    )
    return Hearing(
        delay_s,
        worst_delay_s=max(delay for delay, _ in found),
        correlation=float(np.median([correlation for _, correlation in found])),
        stoi=stoi,
        intact_s=intact_s,
        captured_s=captured_s,
    )


def delays(told: Audio, heard: Audio, offset_s: float, latest_s: float) -> list[tuple[float, float]]:
    """The delay (s) of each part of ten seconds and the normalised correlation there; pauses alone have none.

    Both are at `RATE` Hz, and the first sample of `heard` came `offset_s` after that of `told`. The delay is at most `latest_s`: a clip
    that is repeated is like itself a clip later.
    """
    found = []
    reach = round((latest_s - _EARLIEST_S) * RATE)
    first = round((_EARLIEST_S - offset_s) * RATE)
    padded = np.pad(heard, (max(0, -first), len(told) + reach + abs(first)))[max(0, first) :]
    for part in np.array_split(np.arange(len(told)), max(1, round(len(told) / RATE / _PART_S))):
        begin, size = int(part[0]), len(part)
        if np.mean(np.square(told[begin : begin + size], dtype=np.float64)) > _SPEECH_POWER / 10:
            found_lag, correlation = lag(told[begin : begin + size], padded[begin : begin + size + reach], range(reach))
            found.append((found_lag / RATE + _EARLIEST_S, correlation))
    return found


def lag(told: Audio, heard: Audio, among: range | None = None) -> tuple[int, float]:
    """How many samples `heard` lies behind `told`, any number or one of those `among`, and the normalised correlation there."""
    size = 1 << (len(told) + len(heard)).bit_length()
    spectrum = np.fft.rfft(heard, size) * np.conj(np.fft.rfft(told, size))
    correlation = np.fft.irfft(spectrum, size)
    lags = np.arange(-size // 2, size // 2) if among is None else np.asarray(among)
    best = int(lags[np.argmax(correlation[lags])])
    alike = heard[max(0, best) : max(0, best + len(told))]
    return best, float(correlation[best] / (np.linalg.norm(told) * np.linalg.norm(alike) + 1e-12))


def offline(captured: Audio, rate: int, codec: Codec) -> Audio:
    """What the codec makes of what the microphone program captured, without any network, clock or device behind it."""
    encoder, decoder = codec.stream_encoder(6, sample_rate=rate), codec.stream_decoder(6)
    return np.concatenate([decoder.feed(encoder.feed(captured)), decoder.feed(encoder.flush()), decoder.flush()])


def likeness(reference: Audio, heard: Audio, expected: float) -> tuple[float, float]:
    """STOI of the stretch of `reference` that `heard` is most like, and the seconds of speech in it that were heard intact.

    `heard` lies about `expected` samples behind `reference`, within 0.3 s. Each half second is aligned for itself, within 150
    ms: a playout that gives delay back plays a little faster, and that is no loss of intelligibility.
    """
    from pystoi import stoi

    behind, _ = lag(reference, heard, range(round(expected) - 7_200, round(expected) + 7_200))
    reference, heard = (reference, heard[behind:]) if behind >= 0 else (reference[-behind:], heard)
    size, part, reach = min(len(reference), len(heard)), 12_000, 3_600
    padded = np.pad(heard[:size], reach)
    aligned, intact = [], 0
    for at in range(0, size, part):
        wanted = reference[at : min(at + part, size)]
        around = padded[at : at + len(wanted) + 2 * reach]
        shift = int(np.correlate(around, wanted, "valid").argmax()) if wanted.any() else reach
        found = around[shift : shift + len(wanted)]
        aligned.append(found)
        if wanted @ found > 0.9 * np.linalg.norm(wanted) * np.linalg.norm(found) > 0.9 * _SPEECH_POWER * len(wanted):
            intact += len(wanted)
    return float(stoi(reference[:size], np.concatenate(aligned), 24_000)), intact / 24_000
