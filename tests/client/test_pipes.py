"""A pipe gives samples or a sound file, and takes samples; one that stalls holds up nothing but itself."""

from __future__ import annotations

import asyncio
import contextlib
import os
import threading

import numpy as np
import pytest
import soundfile as sf
from live_rig import run, until, voice

from streamcodec.audio import float_to_pcm
from streamcodec.client.pipes import PipeSource, open_pipe
from streamcodec.client.sinks import PipeSink
from streamcodec.errors import AudioError


class Fed:
    """A pipe that a thread fills with `data`, in pieces of an odd size, and closes."""

    def __init__(self, data: bytes, *, close: bool = True) -> None:
        reading, writing = os.pipe()
        self.reading = os.fdopen(reading, "rb")

        def fill() -> None:
            with contextlib.suppress(BrokenPipeError):
                for at in range(0, len(data), 4_999):
                    os.write(writing, data[at : at + 4_999])
            if close:
                os.close(writing)

        self.thread = threading.Thread(target=fill)
        self.writing = writing

    def __enter__(self):
        self.thread.start()
        return self.reading

    def __exit__(self, *_: object) -> None:
        # What nobody reads any more must not hold the thread.
        self.reading.close()
        self.thread.join()


async def read(pipe, rate=48_000, channels=1):
    source = await open_pipe(rate, channels, pipe)
    parts = [block async for block, _ in source.blocks()]
    return source, np.concatenate(parts, axis=1)


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3", "aiff", "au"])
@pytest.mark.parametrize("rate", [24_000, 44_100])
def test_a_sound_file_on_a_pipe_is_read_at_its_own_rate(tmp_path, kind, rate):
    path = tmp_path / f"x.{kind}"
    x = voice(0.5, rate, channels=2).T
    sf.write(path, x, rate)
    expected = sf.read(path, dtype="float32")[0].T
    with Fed(path.read_bytes()) as pipe:
        source, samples = run(read(pipe))
    assert (source.sample_rate, source.channels, source.exhausted) == (rate, 2, True)
    np.testing.assert_allclose(samples[:, : expected.shape[1]], expected, atol=1e-6)


def test_raw_samples_on_a_pipe_are_read_as_it_was_told():
    x = voice(0.3, 16_000)
    with Fed(float_to_pcm(x, "pcm_s16le")) as pipe:
        source, samples = run(read(pipe, 16_000))
    assert (source.sample_rate, source.channels) == (16_000, 1)
    np.testing.assert_array_equal(samples[0], x)


@pytest.mark.parametrize("data", [b"", b"\x01", b"\x01\x00\x02"])
def test_a_pipe_of_a_few_bytes_is_raw_samples(data):
    async def main() -> None:
        source = await open_pipe(24_000, 1, pipe)
        assert sum([block.shape[1] async for block, _ in source.blocks()]) == len(data) // 2

    with Fed(data) as pipe:
        run(main())


def test_a_sound_file_is_never_published_as_raw_samples(tmp_path):
    sf.write(tmp_path / "x.flac", voice(0.1), 24_000)

    async def main(pipe) -> None:
        with pytest.raises(AudioError, match=r"a sound file comes \(FLAC\), expected raw samples"):
            await anext(PipeSource(24_000, 1, pipe).blocks())

    with (tmp_path / "x.flac").open("rb") as pipe:
        run(main(pipe))


@pytest.mark.parametrize("head", [b"\0\0\0\x20ftypM4A ", b"\x1aE\xdf\xa3" + bytes(20)])
def test_a_file_that_cannot_be_decoded_from_a_pipe_is_refused_with_what_helps(head):
    with Fed(head) as pipe, pytest.raises(AudioError, match=r"ffmpeg -i FILE -f wav -"):
        run(open_pipe(24_000, 1, pipe))


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
@pytest.mark.parametrize("seconds", [0.05, 3.0])
def test_a_second_file_behind_the_first_is_not_left_out_without_a_word(tmp_path, kind, seconds):
    sf.write(tmp_path / f"x.{kind}", voice(seconds), 24_000)
    data = (tmp_path / f"x.{kind}").read_bytes()
    with Fed(data) as pipe:
        run(read(pipe))
    with Fed(data + data) as pipe, pytest.raises(AudioError, match="the pipe is several files, one after the other"):
        run(read(pipe))


@pytest.mark.parametrize("kind", ["wav", "flac"])
def test_a_pipe_that_ends_too_early_is_told(tmp_path, kind):
    sf.write(tmp_path / f"x.{kind}", voice(0.5), 24_000)
    data = (tmp_path / f"x.{kind}").read_bytes()
    with Fed(data[: len(data) * 2 // 3]) as pipe, pytest.raises(AudioError, match="the pipe was cut off"):
        run(read(pipe))


def test_more_channels_than_are_mixed_are_refused():
    with pytest.raises(AudioError, match="channels is 12, expected 1 to 8"):
        PipeSource(24_000, 12)


def test_waiting_for_the_first_bytes_can_be_interrupted():
    async def main() -> None:
        opening = asyncio.ensure_future(open_pipe(24_000, 1, fed.reading))
        await asyncio.sleep(0)
        opening.cancel()
        with pytest.raises(asyncio.CancelledError):
            await opening

    fed = Fed(b"", close=False)
    run(main())
    os.close(fed.writing)
    fed.reading.close()


class Stalled:
    """A pipe whose reader takes nothing until it is `released`."""

    def __init__(self) -> None:
        self.released = threading.Event()
        self.got = b""

    def write(self, data) -> int:
        self.released.wait()
        self.got += bytes(data)
        return len(data)


def test_a_reader_that_stalls_blocks_nothing_and_holds_the_writer_back():
    pipe, x = Stalled(), voice(0.3)

    async def main() -> None:
        sink = PipeSink(pipe)
        for _ in range(4):  # 1.2 s, where a second may wait
            sink.write(x)
        waiting = asyncio.ensure_future(sink.room())
        for _ in range(100):
            await asyncio.sleep(0)
        assert not waiting.done()
        pipe.released.set()
        await waiting
        await sink.finish()

    run(main())
    assert pipe.got == 4 * float_to_pcm(x, "pcm_s16le")


def test_an_interrupt_does_not_wait_for_a_reader_that_stalls(monkeypatch):
    monkeypatch.setattr("streamcodec.client.sinks._LAST_S", 0.01)
    pipe = Stalled()

    async def main() -> None:
        sink = PipeSink(pipe)

        async def playing() -> None:
            try:
                for _ in range(100):
                    sink.write(voice(0.3))
                    await sink.room()
            finally:
                await sink.finish()

        task = asyncio.ensure_future(playing())
        await until(lambda: sink._waiting)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    run(main())
    pipe.released.set()


def test_a_pipe_that_was_closed_is_told():
    class Closed:
        def write(self, data) -> int:  # noqa: ARG002
            raise BrokenPipeError

    async def main() -> None:
        sink = PipeSink(Closed())
        sink.write(voice(0.1))
        with pytest.raises(BrokenPipeError):
            await sink.finish()
        with pytest.raises(BrokenPipeError):
            sink.write(voice(0.1))

    run(main())
