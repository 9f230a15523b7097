"""Whether a load arrived: numbers without holes, codes those of the whole clip, and audio that of the whole clip's decoding.

The yardstick is computed here from the plan alone, clip by clip in one go; nothing of it passed through the server.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from benchmarks.harness.parity import lead_codes
from benchmarks.load.clients import ListenerLog, LoadReport, Published
from benchmarks.load.plan import ListenerPlan, Plan, PublisherPlan, heard_by_the_encoder
from streamcodec.audio import float_to_pcm, pcm_to_float
from streamcodec.client import Player
from streamcodec.codec import Codec
from streamcodec.protocol import Packet, StreamEnd, StreamStart, unpack_codes
from streamcodec.protocol.clock import unwrap_timestamp
from streamcodec.types import Codes, Samples

# Torch takes seconds to import, and the process that makes the load has no use for it.
if TYPE_CHECKING:
    from streamcodec.model.near_ties import NearTies, StreamTruth

__all__ = ["FLOAT_WITHIN", "S16_WITHIN", "Outcome", "check", "offline_codes"]


FLOAT_WITHIN = 1e-4
S16_WITHIN = 1.01 / 32_768


@dataclass(frozen=True)
class Offline:
    """A stream's yardstick: the codes of the whole clip, of the silence before it where the stream is primed, and the clip's latents."""

    codes: Codes
    lead: Codes
    truth: StreamTruth

    def audio(self, codec: Codec, codes: Codes) -> Samples:
        """What `codes` [n_q, F] decode to behind this stream's lead, in one go."""
        joined = np.concatenate([self.lead[: codes.shape[0]], codes], axis=1)
        samples: Samples = codec.decode(joined)[self.lead.shape[1] * codec.hop_length :]
        return samples


@dataclass
class Outcome:
    """The outcome; `failures` says in words what is wrong, and `rows` has a line for each listener."""

    failures: list[str]
    rows: list[dict[str, Any]]
    latencies: list[dict[str, Any]]


def offline_codes(codec: Codec, rule: NearTies, plan: Plan, publisher: PublisherPlan) -> Offline:
    """Encode a publisher's whole clip in one go."""
    samples = heard_by_the_encoder(plan, publisher)
    lead = lead_codes(rule, codec.config.n_q_for(publisher.bandwidth))
    lead = lead if publisher.start == "primed" else lead[:, :0]
    silence = np.zeros(lead.shape[1] * codec.hop_length, np.float32)
    codes: Codes = codec.encode(np.concatenate([silence, samples]), bandwidth=publisher.bandwidth)
    return Offline(codes[:, lead.shape[1] :], lead, rule.stream(samples, publisher.start))


def check(codec: Codec, plan: Plan, offline: list[Offline], report: LoadReport) -> Outcome:
    """Check every publisher and every listener."""
    outcome = Outcome([], [], [])
    for publisher, published in zip(plan.publishers, report.published, strict=True):
        outcome.failures += _publisher_failures(publisher, published, plan)
    full = {
        which.stream: _codes(codec, note)
        for which, note in zip(plan.listeners, report.heard, strict=True)
        if which.format == "codes" and which.bandwidth is None and note.packets
    }
    for index, (which, note) in enumerate(zip(plan.listeners, report.heard, strict=True)):
        publisher, published = plan.publishers[which.stream], report.published[which.stream]
        row: dict[str, Any] = {"listener": index, "stream": publisher.name, "source": publisher.kind, "format": which.format}
        failures = _sequence_failures(note, offline[which.stream], round(plan.packet_s * 75))
        if note.packets:
            if which.format == "codes":
                row |= _check_codes(codec, which, note, offline[which.stream], full.get(which.stream))
            else:
                row |= _check_pcm(codec, which, note, offline[which.stream], full.get(which.stream))
            failures += row.pop("failures")
            row |= {"packets": len(note.packets), "lost": note.gaps, "timestamp_error_ms": _timestamp_error_ms(note, published, plan)}
            outcome.latencies.append(_latencies(index, row, note, published, plan))
        outcome.failures += [f"listener {index} of {publisher.name} ({which.format}): {failure}" for failure in failures]
        outcome.rows.append(row)
    return outcome


def _publisher_failures(publisher: PublisherPlan, published: Published, plan: Plan) -> list[str]:
    packets = round(plan.seconds / plan.packet_s)
    found = []
    if published.error:
        found.append(published.error)
    elif published.emitted != packets or published.dropped or published.dropped_s:
        found.append(
            f"{published.emitted} packets emitted, expected {packets}; "
            f"{published.dropped} messages dropped, {published.dropped_s:g} s unsent"
        )
    return [f"publisher {publisher.name}: {failure}" for failure in found]


def _sequence_failures(note: ListenerLog, offline: Offline, frames: int) -> list[str]:
    if note.error:
        return [note.error]
    expected = -(-offline.codes.shape[1] // frames)
    numbers = [packet[0] for packet in note.packets]
    found = []
    if numbers != list(range(expected)) or note.next_seq != expected:
        found.append(f"{len(numbers)} packets numbered up to {note.next_seq}, expected 0 to {expected - 1}")
    if note.gaps:
        found.append(f"{note.gaps} packets lost")
    if len(note.starts) != 1:
        found.append(f"{len(note.starts)} starts, expected one")
    return found


def _codes(codec: Codec, note: ListenerLog) -> Codes:
    bits = codec.config.bits_per_code
    return np.concatenate([unpack_codes(payload, n_q, bits) for _, n_q, _, payload, _ in note.packets], axis=1).astype(np.int32)


def _check_codes(codec: Codec, which: ListenerPlan, note: ListenerLog, offline: Offline, full: Codes | None) -> dict[str, Any]:
    """Codes against the whole clip's, and what a player makes of them, packet by packet, against decoding them in one go."""
    codes = _codes(codec, note)
    wanted = offline.codes.shape[0] if which.bandwidth is None else codec.config.n_q_for(which.bandwidth)
    failures = []
    if codes.shape != (wanted, offline.codes.shape[1]):
        failures.append(f"codes of shape {list(codes.shape)}, expected {[wanted, offline.codes.shape[1]]}")
        return {"kbps": codec.config.bandwidth_of(wanted), "failures": failures}
    found = offline.truth.compare(codes, offline.codes[:wanted])
    if not found:
        failures.append(str(found))
    if full is not None and not np.array_equal(codes, full[:wanted]):
        failures.append("its codes are no prefix of what the stream's other listener got")
    audio = _played(codec, note, wanted)
    error = float(np.abs(audio - offline.audio(codec, codes)).max()) if audio.size == codes.shape[1] * codec.hop_length else None
    if error is None or error > FLOAT_WITHIN:
        failures.append(f"audio is off by {error}, expected {FLOAT_WITHIN:g}" if error else f"{audio.size} samples of audio")
    compared = {"differing": found.differing, "near_ties": len(found.near_ties)}
    return {"kbps": codec.config.bandwidth_of(wanted), **compared, "audio_error": error, "failures": failures}


def _played(codec: Codec, note: ListenerLog, n_q: int) -> Samples:
    """What the client library's player makes of what came."""
    player = Player(codec)
    kind, bandwidth, first_seq = note.starts[0]
    start = StreamStart(
        epoch=0,
        n_q=n_q,
        bandwidth=bandwidth,
        packet_frames=6,
        start="primed" if kind == "primed" else "exact",
        first_seq=first_seq,
        live_seq=first_seq,
        format="codes",
        sample_rate=codec.sample_rate,
    )
    parts = [player.feed(start)]
    parts += [player.feed(Packet(seq, 0, timestamp, n_q, payload)) for seq, n_q, timestamp, payload, _ in note.packets]
    return np.concatenate([*parts, player.feed(StreamEnd(next_seq=note.next_seq or 0))])


def _check_pcm(codec: Codec, which: ListenerPlan, note: ListenerLog, offline: Offline, full: Codes | None) -> dict[str, Any]:
    """The server's decoding against the whole clip's, of the codes that the stream's codes listener got."""
    codes = offline.codes if full is None else full
    expected = offline.audio(codec, codes)
    audio = np.concatenate(
        [pcm_to_float(payload, "pcm_s16le" if which.format == "pcm_s16le" else "pcm_f32le") for *_, payload, _ in note.packets]
    )
    if audio.shape != expected.shape:
        return {"failures": [f"{audio.size} samples, expected {expected.size}"]}
    within = FLOAT_WITHIN
    if which.format == "pcm_s16le":
        expected, within = pcm_to_float(float_to_pcm(expected, "pcm_s16le"), "pcm_s16le"), S16_WITHIN
    error = float(np.abs(audio - expected).max())
    failures = [f"audio is off by {error:.2e}, expected {within:.2e}"] if error > within else []
    return {"audio_error": error, "failures": failures}


def _due_us(note: ListenerLog, published: Published, plan: Plan, last: bool) -> npt.NDArray[np.float64]:
    """When each packet's first or last sample was captured."""
    numbers = np.array([packet[0] for packet in note.packets], np.float64)
    return published.begun_us + (numbers + last) * plan.packet_s * 1e6


def _timestamp_error_ms(note: ListenerLog, published: Published, plan: Plan) -> float:
    """How far the packets' timestamps are from the truth at most: both processes read one clock."""
    told = np.array([unwrap_timestamp(packet[2], packet[4]) for packet in note.packets], np.float64)
    return float(np.abs(told - _due_us(note, published, plan, last=False)).max() / 1000)


def _latencies(index: int, row: dict[str, Any], note: ListenerLog, published: Published, plan: Plan) -> dict[str, Any]:
    received = np.array([packet[4] for packet in note.packets], np.float64)
    took = (received - _due_us(note, published, plan, last=True)) / 1000
    return {"listener": index, "source": row["source"], "format": row["format"], "ms": [round(float(ms), 2) for ms in took]}
