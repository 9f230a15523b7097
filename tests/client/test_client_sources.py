"""Every source gives blocks [C, T] at its own rate with the time of their capture, until it has no more."""

from __future__ import annotations

import asyncio
import io
import os
import sys
import threading
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from fake_sound import FakeSound
from live_rig import run, until, voice

from streamcodec.audio import float_to_pcm, write_audio
from streamcodec.client import now_us, sources
from streamcodec.client.sources import ClipSource, DeviceSource, FileSource, PipeSource, Source, open_source
from streamcodec.errors import AudioError, DeviceError


@pytest.fixture
def sound(monkeypatch) -> FakeSound:
    fake = FakeSound()
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


class Time:
    """A clock that only a sleeper moves."""

    def __init__(self, monkeypatch: Any) -> None:
        self.us = 5_000_000
        monkeypatch.setattr(sources, "now_us", lambda: self.us)
        monkeypatch.setattr(sources.asyncio, "sleep", self.sleep)

    async def sleep(self, seconds: float) -> None:
        self.us += round(seconds * 1e6)


async def collect(source: Source) -> tuple[Any, list[int]]:
    parts, times = [], []
    async for block, captured in source.blocks():
        parts.append(block)
        times.append(captured)
    return np.concatenate(parts, axis=1), times


def test_a_file_comes_whole_in_its_own_rate_and_channels(tmp_path, monkeypatch):
    Time(monkeypatch)
    x = voice(0.31, 44_100, channels=2)
    write_audio(tmp_path / "x.wav", x, 44_100)
    source = FileSource(tmp_path / "x.wav")
    assert (source.sample_rate, source.channels, source.exhausted) == (44_100, 2, False)
    samples, _ = run(collect(source))
    np.testing.assert_array_equal(samples, x)
    assert source.exhausted
    source.close()


def test_a_file_in_real_time_gives_each_block_when_a_microphone_would_have(tmp_path, monkeypatch):
    time = Time(monkeypatch)
    write_audio(tmp_path / "x.wav", voice(0.1), 24_000)
    source = FileSource(tmp_path / "x.wav")

    async def main() -> None:
        begun = time.us
        position = 0
        async for block, captured in source.blocks():
            assert captured == pytest.approx(begun + position / 24_000 * 1e6, abs=2)
            position += block.shape[1]
            assert time.us == pytest.approx(begun + position / 24_000 * 1e6, abs=5)
        assert position == 2400

    run(main())


def test_a_reader_that_was_late_gets_what_is_due_at_once_and_then_real_time_again(monkeypatch):
    time = Time(monkeypatch)
    source = ClipSource(voice(0.2), 24_000, "a clip")

    async def main() -> list[int]:
        arrivals = []
        begun = time.us
        async for _, captured in source.blocks():
            arrivals.append(round((time.us - begun) / 1000))
            assert captured - begun == 20_000 * (len(arrivals) - 1)
            if len(arrivals) == 2:
                time.us += 50_000
        return arrivals

    assert run(main()) == [20, 40, 90, 90, 100, 120, 140, 160, 180, 200]


def test_a_fast_file_waits_for_nobody(tmp_path, monkeypatch):
    time = Time(monkeypatch)
    write_audio(tmp_path / "x.wav", voice(2.5), 24_000)
    begun = time.us
    samples, times = run(collect(FileSource(tmp_path / "x.wav", fast=True)))
    assert samples.shape == (1, 60_000)
    assert time.us == begun
    assert len(times) == 3


@pytest.mark.parametrize("kind", ["file", "clip", "pipe"])
def test_a_source_that_is_asked_again_goes_on_where_it_was(tmp_path, monkeypatch, kind):
    x = voice(0.2)
    write_audio(tmp_path / "x.wav", x, 24_000)
    # An odd number of bytes at a time: a sample must not be torn by asking again.
    pipe = _Dribble(float_to_pcm(x, "pcm_s16le"), 333)
    source: Source = {
        "file": lambda: FileSource(tmp_path / "x.wav"),
        "clip": lambda: ClipSource(x, 24_000, "a clip"),
        "pipe": lambda: PipeSource(24_000, 1, pipe),
    }[kind]()
    if kind != "pipe":
        Time(monkeypatch)

    async def main() -> None:
        parts = []
        first: AsyncIterator[Any] = source.blocks()
        for _ in range(3):
            parts.append((await anext(first))[0])
        await first.aclose()
        assert not source.exhausted
        parts += [block async for block, _ in source.blocks()]
        np.testing.assert_array_equal(np.concatenate(parts, axis=1)[0], x)
        assert source.exhausted
        assert [block async for block, _ in source.blocks()] == []

    run(main())


class _Dribble(io.RawIOBase):
    """Gives `size` bytes at a time, whatever is asked for, and counts its readers."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size
        self.readers: set[int] = set()

    def read(self, _: int = -1) -> bytes:
        self.readers.add(threading.get_ident())
        return self._data.read(self._size)


def test_a_pipe_has_one_reader_however_often_it_is_asked():
    pipe = _Dribble(bytes(4000), 100)
    source = PipeSource(24_000, 1, pipe)

    async def main() -> None:
        for _ in range(3):
            blocks = source.blocks()
            await anext(blocks)
            await blocks.aclose()
        assert len([block async for block, _ in source.blocks()]) == 37

    run(main())
    assert len(pipe.readers) == 1


def test_a_pipe_is_interleaved_and_a_torn_last_frame_is_left_out():
    x = voice(0.1, 16_000, channels=2)
    data = float_to_pcm(x.T.reshape(-1), "pcm_s16le")
    source = PipeSource(16_000, 2, io.BytesIO(data + b"\x01\x02\x03"))
    samples, _ = run(collect(source))
    np.testing.assert_array_equal(samples, x)


def test_a_pipe_gives_what_there_is_without_waiting_for_a_whole_block():
    reading, writing = os.pipe()

    async def main() -> None:
        with os.fdopen(reading, "rb") as pipe:
            blocks = PipeSource(24_000, 1, pipe).blocks()
            os.write(writing, bytes(20))
            before = now_us()
            block, captured = await anext(blocks)
            assert block.shape == (1, 10)
            assert before - 1_000_000 < captured < now_us()
            os.close(writing)
            with pytest.raises(StopAsyncIteration):
                await anext(blocks)

    run(main())


def test_a_slow_reader_holds_the_pipe_back():
    pipe = _Dribble(bytes(1_000_000), 1000)

    async def main() -> None:
        source = PipeSource(24_000, 1, pipe)
        await anext(source.blocks())
        await until(lambda: source._queue is not None and source._queue.full())
        assert pipe._data.tell() <= 6_000

    run(main())


def test_a_microphone_is_read_at_its_own_rate_with_the_time_of_capture(sound):
    async def main() -> None:
        source = DeviceSource()
        assert (source.label, source.sample_rate, source.channels) == ("microphone Mouth", 48_000, 2)
        [stream] = sound.streams
        blocks = source.blocks()
        first = asyncio.ensure_future(anext(blocks))
        await until(lambda: stream.active)
        x = voice(0.01, 48_000, channels=2).T
        now = now_us()
        stream.record(x[:240], age_s=0.012)
        stream.record(x[240:], age_s=0.007)
        samples, captured = await first
        np.testing.assert_array_equal(samples, x.T)
        assert captured == pytest.approx(now - 12_000, abs=1_000_000)
        assert captured <= now - 11_000
        source.close()
        assert stream.closed and not stream.active
        await blocks.aclose()

    run(main())


def test_a_block_of_unknown_age_is_as_old_as_it_is_long(sound):
    async def main() -> None:
        source = DeviceSource("mouth")
        [stream] = sound.streams
        blocks = source.blocks()
        first = asyncio.ensure_future(anext(blocks))
        await until(lambda: stream.active)
        before = now_us()
        stream.record(np.zeros((4800, 2), np.float32))
        after = now_us()
        _, captured = await first
        assert before - 100_000 <= captured <= after - 100_000
        await blocks.aclose()

    run(main())


def test_a_reader_that_is_too_slow_loses_the_oldest_and_is_never_much_behind(sound):
    async def main() -> None:
        source = DeviceSource()
        [stream] = sound.streams
        blocks = source.blocks()
        first = asyncio.ensure_future(anext(blocks))
        await until(lambda: stream.active)
        stream.record(np.zeros((240, 2), np.float32), age_s=0.005)
        assert (await first)[0].shape == (2, 240)
        for i in range(120):
            stream.record(np.full((240, 2), i, np.float32), age_s=0.005)
        samples, captured = await anext(blocks)
        np.testing.assert_array_equal(samples[0], np.repeat(np.arange(70, 120), 240))
        assert source.dropped_s == pytest.approx(0.35)
        assert captured > now_us() - 1_000_000
        await blocks.aclose()

    run(main())


def test_what_piled_up_while_nobody_read_is_not_published_and_counts_as_nothing_lost(sound):
    async def main() -> None:
        source = DeviceSource()
        [stream] = sound.streams
        for _ in range(3):
            stream.record(np.ones((48_000, 2), np.float32))
        blocks = source.blocks()
        first = asyncio.ensure_future(anext(blocks))
        await until(lambda: stream.active)
        stream.record(np.zeros((240, 2), np.float32))
        samples, _ = await first
        np.testing.assert_array_equal(samples, np.zeros((2, 240)))
        assert source.dropped_s == 0.0
        await blocks.aclose()

    run(main())


@pytest.mark.parametrize("turns", range(6))
def test_an_interrupt_ends_the_reading_of_a_microphone_whenever_it_comes(sound, turns):
    """Also in the turn of the event loop in which a block arrives."""

    async def read() -> None:
        async for _ in DeviceSource().blocks():
            pass

    async def main() -> None:
        reading = asyncio.create_task(read())
        await until(lambda: bool(sound.streams) and sound.streams[0].active)
        sound.streams[0].record(np.zeros((240, 2), np.float32), age_s=0.005)
        for _ in range(turns):
            await asyncio.sleep(0)
        reading.cancel()
        for _ in range(20):
            await asyncio.sleep(0)
        assert reading.cancelled()

    run(main())


@pytest.mark.usefixtures("sound")
def test_a_microphone_that_falls_silent_for_good_is_an_error(monkeypatch):
    timeout = asyncio.timeout

    async def main() -> None:
        monkeypatch.setattr(sources.asyncio, "timeout", lambda _: timeout(0))
        with pytest.raises(DeviceError, match="microphone Mouth has given nothing for 5 s: was it unplugged"):
            await anext(DeviceSource().blocks())

    run(main())


def test_a_microphone_that_does_not_start_is_an_error_in_words(sound):
    async def main() -> None:
        sound.fail_on_start = True
        with pytest.raises(DeviceError, match=r"microphone Mouth cannot be started: .*Unanticipated host error"):
            await anext(DeviceSource().blocks())

    run(main())


@pytest.mark.usefixtures("sound")
def test_what_a_name_stands_for_is_found_out(tmp_path):
    write_audio(tmp_path / "x.wav", voice(0.1), 24_000)

    async def main() -> None:
        assert isinstance(open_source("-", fast=False, rate=8000, channels=1), PipeSource)
        source = open_source(str(tmp_path / "x.wav"), fast=False, rate=1, channels=1)
        assert isinstance(source, FileSource)
        source.close()
        assert isinstance(open_source(None, fast=False, rate=1, channels=1), DeviceSource)
        assert isinstance(open_source("0", fast=False, rate=1, channels=1), DeviceSource)
        assert isinstance(open_source("mouth", fast=False, rate=1, channels=1), DeviceSource)
        with pytest.raises(AudioError, match=r"there is no file talk\.wav"):
            open_source("talk.wav", fast=False, rate=1, channels=1)
        with pytest.raises(DeviceError, match=r"no input device with 'talk' in its name; this machine has 0: Mouth"):
            open_source("talk", fast=False, rate=1, channels=1)

    run(main())
