"""What a live stream's copy for other nodes (`--replicate`) consists of, in bytes, at a server in this process."""

from __future__ import annotations

import asyncio
import time

import numpy as np

from benchmarks.harness.models import Loading
from benchmarks.harness.processes import run_loop
from streamcodec.audio import bundled_clip
from streamcodec.client import PublishOptions, publish
from streamcodec.protocol.values import pack_value
from streamcodec.server import Limits, Server
from streamcodec.server.ingest.pcm import PcmState

__all__ = ["copy_bytes"]

_NAME = "copied"


def copy_bytes(loading: Loading, kbps: float, seconds: float) -> tuple[int, dict[str, int]]:
    """The codebooks at `kbps`, and bytes of each part after a publisher of PCM has talked for `seconds` in real time."""
    return run_loop(_copy_bytes(loading, kbps, seconds))


async def _copy_bytes(loading: Loading, kbps: float, seconds: float) -> tuple[int, dict[str, int]]:
    codec = loading()
    samples, rate = bundled_clip()
    block = rate // 50
    voice = np.resize(samples, round(seconds * rate)).astype(np.float32)
    async with Server(codec, "127.0.0.1", port=0, limits=Limits(capacity=None), insecure=True) as server:
        options = PublishOptions(sample_rate=rate, bandwidth=kbps)
        async with publish(f"ws://127.0.0.1:{server.port}", _NAME, options) as publisher:
            begun = time.perf_counter()
            for at in range(0, voice.size, block):
                await publisher.send(voice[at : at + block])
                await asyncio.sleep(max(0.0, begun + (at + block) / rate - time.perf_counter()))
            snapshot = await server.registry.streams[_NAME].snapshot()
            whole = len(snapshot.to_bytes(codec.fingerprint, codec.engine))
    assert isinstance(snapshot.source, PcmState)
    parts = {"packets of the last seconds": snapshot.fan_out.history, "the encoder's state": snapshot.source.row}
    sizes = {what: len(pack_value(part)) for what, part in parts.items()}
    return codec.config.bandwidth_to_n_q(kbps), {**sizes, "all else": whole - sum(sizes.values())}
