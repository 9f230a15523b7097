"""A stereo model that codes chunks goes through a real server: each packet is a chunk, and what is heard is the whole clip."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from made_up_models import STEREO, save_made_up_model, stereo_model
from parity import assert_same_chunks
from patience import patient_limits
from server_rig import run

import streamcodec
from benchmarks.harness.music import music
from streamcodec.audio import resample, write_audio
from streamcodec.client import Listener, Player, PublishOptions, listen, publish
from streamcodec.client.pipeline import publish_source
from streamcodec.client.sources import FileSource
from streamcodec.codec import Chunk, Codec
from streamcodec.engine.base import EngineName
from streamcodec.errors import Refused, UnsupportedModelError
from streamcodec.protocol import Gap, Packet, PayloadLayout, StreamEnd, StreamStart
from streamcodec.server import Server

Audio = npt.NDArray[np.float32]

CHUNK, STRIDE = 4_800, 4_320


@functools.cache
def stereo_codec(use: str = "server") -> Codec:  # noqa: ARG001 - one for the server's threads, another for the test's
    return streamcodec.load(stereo_model())


def live_stereo() -> PublishOptions:
    return PublishOptions(sample_rate=48_000, channels=2, mix_down=False)


@contextlib.asynccontextmanager
async def serving(**limits: Any) -> AsyncIterator[Server]:
    async with Server(stereo_codec(), port=0, limits=patient_limits(**limits)) as server:
        yield server


async def heard_by(listener: Listener, codec: Codec | None) -> tuple[Audio, list[Packet], list[StreamStart], list[Gap]]:
    """All that a listener hears until the stream ends, [C, T], with its packets, starts and gaps."""
    player = Player(codec, fill_gaps=True)
    parts, packets, starts, gaps = [], [], [], []
    async for event in listener:
        parts.append(player.feed(event))
        if isinstance(event, Packet):
            packets.append(event)
        elif isinstance(event, StreamStart):
            starts.append(event)
        elif isinstance(event, Gap):
            gaps.append(event)
        elif isinstance(event, StreamEnd):
            break
    return np.concatenate([part for part in parts if part.ndim == 2], axis=1), packets, starts, gaps


def chunks_of(packets: list[Packet], codec: Codec | None = None) -> list[Chunk]:
    layout = PayloadLayout.of((codec or stereo_codec("test")).config)
    return [layout.unpack(packet.payload, packet.n_q) for packet in packets]


def assert_chunks_of(codec: Codec, found: list[Chunk], clip: Audio, bandwidth: float) -> None:
    """The chunks are those of the whole clip [C, T], but for near-ties."""
    assert_same_chunks(codec, found, codec.encode(clip, bandwidth=bandwidth), clip)


@pytest.mark.parametrize("way", ["pcm", "pcm, mixed down", "pcm of another rate", "codes"])
def test_music_comes_out_as_the_whole_clip_at_listeners_of_codes_and_of_pcm(way: str, tmp_path: Path) -> None:
    codec = stereo_codec("test")
    rate = 32_000 if way == "pcm of another rate" else 48_000
    clip, bandwidth = music(2, round(0.731 * rate), rate=rate), 38.4
    write_audio(tmp_path / "x.wav", clip, rate)
    options = PublishOptions(sample_rate=rate, bandwidth=bandwidth, pace="fast")
    if way != "pcm, mixed down":
        options = replace(options, channels=2, mix_down=False)
    if way == "codes":
        options = PublishOptions(format="codes", model=codec.fingerprint, bandwidth=bandwidth, pace="fast")

    async def main() -> None:
        async with serving() as server, contextlib.AsyncExitStack() as stack:
            listeners = [
                await stack.enter_async_context(listen(server.url, "x", model=codec.fingerprint)),
                await stack.enter_async_context(listen(server.url, "x", model=codec.fingerprint, bandwidth=19.2)),
                await stack.enter_async_context(listen(server.url, "x", format="pcm_f32le")),
                await stack.enter_async_context(listen(server.url, "x", format="pcm_s16le")),
            ]
            async with publish(server.url, "x", options) as publisher:
                assert (publisher.welcome.packet_frames, publisher.welcome.start) == (120, "exact")
                source = FileSource(tmp_path / "x.wav", fast=True)
                ended = await publish_source(source, publisher, codec=codec if way == "codes" else None)
            results = [await heard_by(one, codec if one.hello.format == "codes" else None) for one in listeners]
        whole = resample(clip, rate, 48_000)
        mixed = (np.rint(whole.mean(axis=0, keepdims=True) * 32_768) / 32_768).astype(np.float32)  # as the wire carries it
        expected = np.repeat(mixed, 2, axis=0) if way == "pcm, mixed down" else whole
        (codes, packets, starts, gaps), (_, fewer, _, _), *pcm = results
        assert not gaps and ended.emitted == len(packets)
        [start] = starts
        assert (start.channels, start.packet_frames, start.packet_samples, start.sample_rate) == (2, 120, STRIDE, 48_000)
        found = chunks_of(packets)
        if way != "pcm of another rate":  # a stream is resampled by another filter than a clip
            assert_chunks_of(codec, found, expected, bandwidth)
        for few, all_of_it in zip(chunks_of(fewer), found, strict=True):
            assert few.scale == all_of_it.scale
            np.testing.assert_array_equal(few.codes, all_of_it.codes[:2])
        clip_heard = codec.decode(found)
        assert codes.shape == clip_heard.shape
        np.testing.assert_allclose(codes, clip_heard, atol=1e-4)
        for (samples, _, _, _), within in zip(pcm, (1e-4, 1e-4 + 2**-15), strict=True):
            length = min(samples.shape[1], clip_heard.shape[1])
            assert length >= whole.shape[1]
            np.testing.assert_allclose(samples[:, :length], np.clip(clip_heard[:, :length], -1 if within > 1e-4 else -9, 9), atol=within)

    run(main())


@pytest.mark.parametrize("engine", ["torch", "openvino", "onnx"])
def test_chunks_of_the_published_length_come_out_as_the_whole_clip(engine: EngineName, tmp_path: Path) -> None:
    published = {"upsampling_ratios": [8, 5, 4, 2], "codebook_size": 1024, "chunk_length_s": 1.0, "overlap": 0.01}
    model = save_made_up_model(tmp_path / "model", **{**STEREO, **published, "target_bandwidths": [3.0, 6.0, 12.0]})
    codec, clip = streamcodec.load(model), music(2, 144_000)
    assert codec.config.chunk_sizes(3 * 47_520) == [48_000, 48_000, 47_520]
    # Here the last chunk but one is shorter than a chunk, and yet reaches beyond the beginning of the last one.
    clip = clip[:, : 2 * 47_520 + 47_600]
    assert [codec.config.frames_for(size) for size in codec.config.chunk_sizes(clip.shape[1])] == [150, 150, 149, 1]

    async def main() -> None:
        async with (
            Server(streamcodec.load(model, engine=engine), port=0, limits=patient_limits()) as server,
            listen(server.url, "x", model=codec.fingerprint) as codes,
            listen(server.url, "x", format="pcm_f32le") as pcm,
        ):
            async with publish(server.url, "x", replace(live_stereo(), pace="fast", bandwidth=12.0)) as publisher:
                await publisher.send(clip)
            (heard, packets, [start], gaps), (decoded, _, _, _) = await heard_by(codes, codec), await heard_by(pcm, None)
        assert not gaps and (start.packet_frames, start.packet_samples) == (150, 47_520)
        found = chunks_of(packets, codec)
        assert_chunks_of(codec, found, clip, 12.0)
        whole = codec.decode(found)
        np.testing.assert_allclose(heard, whole, atol=1e-5)
        assert decoded.shape[1] >= clip.shape[1]
        np.testing.assert_allclose(decoded, whole[:, : decoded.shape[1]], atol=1e-5)

    run(main())


def test_a_listener_that_comes_late_hears_the_clip_from_where_it_joined() -> None:
    codec, clip = stereo_codec("test"), music(2, 24_000)

    async def main() -> None:
        async with (
            serving() as server,
            publish(server.url, "x", live_stereo()) as publisher,
            listen(server.url, "x", model=codec.fingerprint) as early,
            listen(server.url, "x", format="pcm_f32le") as pcm,
        ):
            await publisher.send(clip[:, :12_000])
            first = [await anext(early) for _ in range(3)]
            assert [type(event) for event in first] == [StreamStart, Packet, Packet]
            async with listen(server.url, "x", model=codec.fingerprint) as late:
                start = await anext(late)
                assert isinstance(start, StreamStart)
                # The chunk before the first that is heard comes as history, as the two overlap.
                assert (start.first_seq, start.live_seq, start.start) == (1, 2, "resumed")
                await publisher.send(clip[:, 12_000:])
                await publisher.end()
                player = Player(codec, fill_gaps=True)
                heard = [player.feed(start)]
                async for event in late:
                    heard.append(player.feed(event))
                    if isinstance(event, StreamEnd):
                        break
            packets = [event for event in first if isinstance(event, Packet)]
            async for event in early:
                if isinstance(event, Packet):
                    packets.append(event)
                if isinstance(event, StreamEnd):
                    break
            whole = codec.decode(chunks_of(packets))
            live = np.concatenate([part for part in heard if part.ndim == 2], axis=1)
            np.testing.assert_allclose(live, whole[:, 2 * STRIDE :], atol=1e-6)
            decoded, _, _, _ = await heard_by(pcm, None)
            np.testing.assert_allclose(decoded, whole[:, : decoded.shape[1]], atol=1e-5)

    run(main())


def test_a_gap_stands_for_the_strides_of_its_chunks_and_what_follows_is_whole() -> None:
    codec, clip = stereo_codec("test"), music(2, 28_800)
    chunks = codec.encode(clip, bandwidth=38.4)

    async def main() -> None:
        options = PublishOptions(format="codes", model=codec.fingerprint, bandwidth=38.4, pace="fast")
        async with (
            serving() as server,
            listen(server.url, "x", model=codec.fingerprint) as codes,
            listen(server.url, "x", format="pcm_f32le") as pcm,
        ):
            async with publish(server.url, "x", options) as publisher:
                for chunk in chunks[:2]:
                    await publisher.send(chunk)
                publisher.lose(2 * STRIDE / 48_000)
                for chunk in chunks[4:]:
                    await publisher.send(chunk)
            heard = [await heard_by(codes, codec), await heard_by(pcm, None)]
        before, after = codec.decode(chunks[:2]), codec.decode(chunks[4:])
        for samples, _, _, gaps in heard:
            [gap] = gaps
            assert (gap.first_seq, gap.count) == (2, 2)
            np.testing.assert_allclose(samples[:, : 2 * STRIDE], before[:, : 2 * STRIDE], atol=1e-5)
            assert not samples[:, 2 * STRIDE : 4 * STRIDE].any()
            rest = samples[:, 4 * STRIDE :]
            np.testing.assert_allclose(rest, after[:, : rest.shape[1]], atol=1e-5)
            assert rest.shape[1] >= clip.shape[1] - 4 * STRIDE

    run(main())


def test_a_connection_that_breaks_is_resumed_within_a_chunk() -> None:
    codec, clip = stereo_codec("test"), music(2, 28_800)

    async def main() -> None:
        async with serving() as server, listen(server.url, "x", model=codec.fingerprint) as listener:
            async with publish(server.url, "x", live_stereo()) as publisher:
                for at in range(0, clip.shape[1], 3_000):
                    await publisher.send(clip[:, at : at + 3_000])
                    if at == 9_000:
                        publisher._uplink.connection._ws.transport.abort()
            heard, packets, starts, gaps = await heard_by(listener, codec)
            assert publisher.resumed == 1 and len(starts) == 1 and not gaps
        assert_chunks_of(codec, chunks_of(packets), clip, codec.config.bandwidth_of(codec.config.n_q_for()))
        np.testing.assert_allclose(heard, codec.decode(chunks_of(packets)), atol=1e-6)

    run(main())


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        ({"silence_db": -50.0}, "silence_db is -50.0, expected null: no packet of a model in chunks stands for silence"),
        ({"start": "primed"}, "start is 'primed', expected 'exact' or null"),
        ({"bandwidth": 6.0}, "bandwidth is 6.0, this model has 19.2, 38.4, 76.8 kbps"),
    ],
)
def test_what_chunks_cannot_do_is_refused_by_name(asked: dict[str, Any], reason: str) -> None:
    async def main() -> None:
        async with serving() as server:
            with pytest.raises(Refused, match=reason) as refused:
                async with publish(server.url, "x", replace(live_stereo(), **asked)):
                    pass
            assert refused.value.code == "bad_request"

    run(main())


def test_the_welcome_says_what_the_model_can_do() -> None:
    async def main() -> None:
        async with serving() as server, listen(server.url, "x", format="pcm_s16le") as listener:
            model = listener.welcome.model
            assert (model.sampling_rate, model.channels, model.bandwidths) == (48_000, 2, (19.2, 38.4, 76.8))
            assert (model.chunk_length, model.chunk_stride, model.normalize) == (CHUNK, STRIDE, True)
            assert model.layout == PayloadLayout.of(stereo_codec().config)

    run(main())


def test_room_is_measured_in_chunks() -> None:
    async def main() -> None:
        async with Server(stereo_codec(), port=0, limits=replace(patient_limits(), capacity="auto")) as server:
            assert server.room is not None and server.room >= 1

    run(main())


def test_a_model_that_cannot_be_served_is_refused_by_what_it_is(tmp_path: Path) -> None:
    clips = {name: value for name, value in STEREO.items() if name not in ("chunk_length_s", "overlap")}
    with pytest.raises(UnsupportedModelError, match=r"codes whole clips only: this model is not causal.*, and has no chunks"):
        Server(streamcodec.load(save_made_up_model(tmp_path / "clips", **clips)))
    long = {**STEREO, "chunk_length_s": 10.0}
    with pytest.raises(UnsupportedModelError, match="cannot be served: a chunk of 10 s does not fit into a message"):
        Server(streamcodec.load(save_made_up_model(tmp_path / "long", **long)))
