"""What a run of `benchmarks.chunks` takes, its figures, and how they are told."""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.harness.clips import AUDIO_WITHIN, ClipTruth
from benchmarks.harness.machine import Observed
from benchmarks.harness.models import FULL_STEREO, Loading, model_folder, model_name
from benchmarks.harness.music import music
from benchmarks.harness.parity import proved, told
from benchmarks.harness.processes import Address, Processes, Serving, run_loop, serve
from benchmarks.harness.run import Benchmark, Headline
from benchmarks.harness.sections import Figures
from benchmarks.harness.tables import table, verdict
from benchmarks.harness.timing import percentiles
from streamcodec.audio import write_audio
from streamcodec.client import Player, PublishOptions, listen, publish
from streamcodec.client.pipeline import decode, publish_source
from streamcodec.client.sources import FileSource
from streamcodec.codec import Codec
from streamcodec.errors import CodesError, UnsupportedModelError
from streamcodec.model.checkpoint import load_file
from streamcodec.model.near_ties import NearTies
from streamcodec.protocol import Gap, Packet, PayloadLayout, StreamEnd
from streamcodec.types import Samples

__all__ = ["BENCHMARK"]

_STREAM = "music"
_ROUNDS = 5


def add_options(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    add = parser.add_argument
    add("--model", default=FULL_STEREO, help=f'a folder, or "{FULL_STEREO}": the published 48 kHz architecture with random weights')
    add("--bandwidth", type=float, nargs="+", default=[6.0, 24.0], help="kbps")
    add("--seconds", type=float, default=60.0, help="of music at each bandwidth")


def measure_all(args: argparse.Namespace, observed: Observed) -> Figures:
    """Publish and play at each bandwidth."""
    with tempfile.TemporaryDirectory() as folder, model_folder(args.model) as model:
        codec = Loading(model)()
        if codec.config.granularity != "chunks":
            raise UnsupportedModelError(f"{args.model} does not code chunks: expected a model like EnCodec's at 48 kHz")
        codec.warm_up()
        played = music(codec.channels, round(args.seconds * codec.sample_rate), rate=codec.sample_rate)
        clip = Path(folder) / "music.wav"
        write_audio(clip, played, codec.sample_rate)
        rule = NearTies(load_file(Path(model)))
        with observed:
            steps = _step_times(codec, played, args.bandwidth)
            rows = [_row(codec, rule, model, clip, played, kbps) for kbps in args.bandwidth]
    return {
        "model": model_name(args.model),
        "engine": codec.engine.name,
        "rate": codec.sample_rate,
        "channels": codec.channels,
        "seconds": args.seconds,
        "chunk_ms": 1000 * (codec.config.chunk_length or 0) / codec.sample_rate,
        "steps_ms": steps,
        "rows": rows,
        "failures": [f"{row['kbps']:g} kbps: {failure}" for row in rows for failure in row["failures"]],
    }


# Measuring ---------------------------------------------------------------------------------------------------------------------------


def _step_times(codec: Codec, played: Samples, bandwidths: Sequence[float]) -> list[Figures]:
    """What one chunk takes on one thread, while nothing is streamed."""
    chunk = np.ascontiguousarray(played[None, :, : codec.config.chunk_length])
    found = []
    for kbps in bandwidths:
        n_q, times = codec.config.n_q_for(kbps), [[], []]  # type: tuple[int, list[list[float]]]
        for _ in range(_ROUNDS):
            begun = time.perf_counter()
            codes, _ = codec.engine.encode(chunk, None, [n_q], final=True)
            coded = time.perf_counter()
            codec.engine.decode(codes, None, final=True)
            times[0].append(coded - begun)
            times[1].append(time.perf_counter() - coded)
        found.append({"kbps": kbps, "encode": 1000 * float(np.median(times[0])), "decode": 1000 * float(np.median(times[1]))})
    return found


def _row(codec: Codec, rule: NearTies, model: str, clip: Path, played: Samples, kbps: float) -> Figures:
    """Bring the clip through a server in a process of its own to a listener here, and compare with the whole clip."""
    with Processes() as processes:
        server = processes.start(serve, Serving(Loading(model), warm_up_frames=codec.config.packet_frames_for()))
        address: Address = server.receive()
        packets, gaps, heard, delays = run_loop(_published_and_heard(codec, address, clip, kbps))
    layout = PayloadLayout.of(codec.config)
    found = [layout.unpack(packet.payload, packet.n_q) for packet in packets]
    whole = codec.encode(played, bandwidth=kbps)
    failures = [f"{gaps} gaps"] * (gaps > 0)
    row: Figures = {"kbps": kbps, "packets": len(packets), "bytes": float(np.mean([len(packet.payload) for packet in packets]))}
    if len(found) != len(whole):
        return {**row, "failures": [*failures, f"{len(found)} packets of {len(whole)}"]}
    expected: Samples = codec.decode(found)[..., : heard.shape[-1]]
    try:
        parity = proved(ClipTruth(rule, played).compare(found, whole))
    except CodesError as error:
        parity, failures = {"entries": 0, "differing": None, "near_ties": None}, [*failures, str(error)]
    apart = float(np.abs(heard[..., : expected.shape[-1]] - expected).max())
    if heard.shape[-1] < played.shape[-1] or not apart <= AUDIO_WITHIN:
        failures.append(f"heard {heard.shape[-1]} samples of {played.shape[-1]}, {apart:.1e} apart at most")
    return {
        **row,
        **parity,
        "apart": apart,
        "received_ms": percentiles([ms for ms, _ in delays], (50, 95)),
        "decoded_ms": percentiles([ms for _, ms in delays], (50, 95)),
        "failures": failures,
    }


async def _published_and_heard(
    codec: Codec, address: Address, clip: Path, kbps: float
) -> tuple[list[Packet], int, Samples, list[tuple[float, float]]]:
    """Play the clip into a stream at its own pace; its packets, gaps and samples as a listener gets them, and each packet's delays (ms)."""
    packets: list[Packet] = []
    parts: list[Samples] = []
    delays: list[tuple[float, float]] = []
    gaps = 0

    async def hear() -> None:
        nonlocal gaps
        async for item in decode(listener, Player(codec)):
            if isinstance(item.event, Packet):
                captured = listener.captured_us(item.event)
                delays.append(((item.received - captured) / 1000, (item.decoded - captured) / 1000))
                packets.append(item.event)
            gaps += isinstance(item.event, Gap)
            if item.samples.size:
                parts.append(item.samples)
            if isinstance(item.event, StreamEnd):
                return

    async with listen(address.url, _STREAM, model=codec.fingerprint) as listener:
        hearing = asyncio.create_task(hear())
        options = PublishOptions(sample_rate=codec.sample_rate, channels=codec.channels, mix_down=False, bandwidth=kbps)
        async with publish(address.url, _STREAM, options) as publisher:
            await publish_source(FileSource(clip), publisher)
        await hearing
    return packets, gaps, np.concatenate(parts, axis=-1), delays


# Telling -----------------------------------------------------------------------------------------------------------------------------


def render(figures: Figures) -> str:
    """The section's text, from its figures alone."""
    steps = {step["kbps"]: step for step in figures["steps_ms"]}
    rows = []
    for row in figures["rows"]:
        step = steps[row["kbps"]]
        cells: list[object] = [f"{row['kbps']:g}", row["packets"], row["bytes"], step["encode"], step["decode"]]
        if "received_ms" in row:
            cells += [f"{row[key]['p50']:.0f} ({row[key]['p95']:.0f})" for key in ("received_ms", "decoded_ms")]
            cells += [told(row["differing"], row["near_ties"]), f"{row['apart']:.1e}"]
        else:
            cells += ["-"] * 4
        rows.append(cells)
    header = [
        "kbps",
        "packets",
        "bytes a packet",
        "encode a chunk, ms",
        "decode a chunk, ms",
        "received after, ms (95%)",
        "decoded after, ms (95%)",
        "codes unlike the whole clip's",
        "audio apart",
    ]
    sound = f"{figures['seconds']:g} s of made-up music, {figures['rate']} Hz, {figures['channels']} channels"
    return (
        f"`{figures['model']}` on {figures['engine']}: {sound}, from a file at its own pace through a server in a process of its own to a "
        f"listener that decodes. A packet is a chunk of {figures['chunk_ms']:g} ms. Delays count from when the chunk's first sample was "
        f"due, so that {figures['chunk_ms']:g} ms of each are the chunk itself. Times of a chunk are medians on one thread, while nothing "
        f"is streamed. {verdict(figures['failures'])}\n\n{table(header, rows)}\n"
    )


def headlines(figures: Figures) -> list[Headline]:
    """The delay at each bandwidth."""
    return [
        Headline(f"a chunk's first sample until decoded, {figures['model']}, {row['kbps']:g} kbps", f"{row['decoded_ms']['p50']:.0f} ms")
        for row in figures["rows"]
        if "decoded_ms" in row
    ]


BENCHMARK = Benchmark(
    name="chunks",
    title="Stereo music in chunks",
    question="How late does stereo music of a model that codes chunks arrive, and is it what the whole clip gives?",
    options=add_options,
    measure=measure_all,
    render=render,
    headlines=headlines,
)
