"""Every sink takes samples and lets go of what it wrote to: a device without gaps, a file that is whole, a pipe that may close."""

from __future__ import annotations

import asyncio
import io
import sys

import numpy as np
import pytest
from fake_sound import FakeSound
from live_rig import run, until, voice

from streamcodec.audio import float_to_pcm, read_audio
from streamcodec.client import sinks
from streamcodec.client.sinks import DeviceSink, FileSink, PipeSink, open_sink
from streamcodec.errors import AudioError, DeviceError


@pytest.fixture
def sound(monkeypatch) -> FakeSound:
    fake = FakeSound(rate=24_000.0)
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    return fake


@pytest.mark.parametrize("name", ["heard.wav", "heard.flac"])
def test_a_file_holds_all_that_was_written(tmp_path, name):
    x = voice(0.3)

    async def main() -> None:
        sink = FileSink(tmp_path / name, 24_000)
        assert not sink.live
        for at in range(0, len(x), 1000):
            sink.write(x[at : at + 1000])
        await sink.finish()

    run(main())
    samples, rate = read_audio(tmp_path / name)
    assert rate == 24_000
    np.testing.assert_array_equal(samples[0], x)


def test_a_pipe_gets_16_bit_samples_as_soon_as_they_are_written():
    x = voice(0.1)
    pipe = io.BufferedWriter(raw := _Raw(), 1 << 20)

    async def main() -> None:
        sink = PipeSink(pipe)
        sink.write(x[:1000])
        await until(lambda: raw.got == float_to_pcm(x[:1000], "pcm_s16le"))
        sink.write(x[1000:])
        await sink.finish()

    run(main())
    assert raw.got == float_to_pcm(x, "pcm_s16le")


class _Raw(io.RawIOBase):
    def __init__(self) -> None:
        self.got = b""

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:
        self.got += bytes(data)
        return len(data)


def test_a_speaker_holds_back_its_slack_and_plays_the_same_on_every_channel(sound):
    x = voice(0.2)

    async def main() -> None:
        sink = DeviceSink(None, 24_000, slack_s=0.05)
        assert (sink.label, sink.live) == ("speaker Ear", True)
        [stream] = sound.streams
        assert not stream.active
        assert sink.write(x, 10.0, 3.0) == pytest.approx(0.057, abs=5e-5), "its slack, a block of the device, and the resampler"
        assert stream.active
        out = np.concatenate([stream.play(120) for _ in range(20)])
        np.testing.assert_array_equal(out[:, 0], out[:, 1])
        # The slack and one block of the device, and 5 ms in the resampler.
        np.testing.assert_array_equal(out[:1320, 0], np.zeros(1320))
        begins = int(np.flatnonzero(out[:, 0])[0])
        assert 1320 <= begins <= 1600
        assert sink.underruns == 0
        finishing = asyncio.create_task(sink.finish())
        await until(lambda: sink._playout.drained or stream.play(1200) is None)
        await finishing
        assert stream.closed
        assert sink.underruns == 0

    run(main())


@pytest.mark.parametrize("outputs", [1, 2])
def test_a_speaker_plays_two_channels_where_it_has_them_and_else_their_mix(outputs, monkeypatch):
    sound = FakeSound(24_000.0, outputs)
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    left = voice(0.2)

    async def main() -> None:
        sink = open_sink(None, 24_000, channels=2)
        sink.write(np.stack([left, 0.5 * left]), 0.0, 0.0)
        out = np.concatenate([sound.streams[0].play(120) for _ in range(40)])
        assert np.abs(out).max() > 0.1
        if outputs == 2:
            np.testing.assert_allclose(out[:, 1], 0.5 * out[:, 0], atol=1e-6)
        else:
            mono = DeviceSink(None, 24_000)
            mono.write(0.75 * left, 0.0, 0.0)
            np.testing.assert_allclose(out, np.concatenate([sound.streams[1].play(120) for _ in range(40)]), atol=1e-6)

    run(main())


def test_two_channels_are_written_to_files_and_interleaved_on_pipes(tmp_path):
    x = np.stack([voice(0.1), -voice(0.1)])

    async def main() -> None:
        file = open_sink(str(tmp_path / "x.wav"), 24_000, channels=2)
        file.write(x)
        await file.finish()
        raw = _Raw()
        sink = PipeSink(io.BufferedWriter(raw, 1 << 20), channels=2)
        sink.write(x)
        await sink.finish()
        assert raw.got == float_to_pcm(x, "pcm_s16le", 2)
        np.testing.assert_array_equal(np.frombuffer(raw.got, "<i2").reshape(-1, 2)[:, 0], np.rint(x[0] * 32_768))

    run(main())
    samples, _ = read_audio(tmp_path / "x.wav")
    np.testing.assert_allclose(samples, x, atol=2**-15)


def test_a_slack_longer_than_the_bound_is_kept(sound):
    async def main() -> None:
        sink = DeviceSink(None, 24_000, slack_s=1.5)
        [stream] = sound.streams
        sink.write(voice(0.2))
        out = np.concatenate([stream.play(600)[:, 0] for _ in range(68)])
        np.testing.assert_array_equal(out[:36_000], np.zeros(36_000))
        assert np.abs(out[36_300:40_000]).max() > 0.1

    run(main())


def test_a_device_that_wants_more_than_there_is_counts_as_an_underrun(sound):
    async def main() -> None:
        sink = DeviceSink(None, 24_000, slack_s=0.0)
        sink.write(voice(0.1), 0.0, 0.0)
        sound.streams[0].play(4800)
        assert sink.underruns == 1
        assert sink.stats.target_s == pytest.approx(0.006)

    run(main())


def test_a_device_that_runs_dry_is_an_underrun_and_takes_nothing_until_it_runs_again(sound):
    x = np.full(12_000, 0.5, np.float32)

    async def main() -> None:
        sink = DeviceSink(None, 24_000, slack_s=0.05)
        [stream] = sound.streams
        sink.write(x, 0.0, 0.0)
        stream.play(120)
        for _ in range(5):
            np.testing.assert_array_equal(stream.play(120, ran_dry=True), 0.0)
        assert sink.underruns == 0, "the device has not run yet"
        before = np.concatenate([stream.play(120) for _ in range(20)])[:, 0]
        assert before[-1] == pytest.approx(0.5, abs=1e-3)
        waiting = sink.stats.buffered_s
        for _ in range(3):
            np.testing.assert_array_equal(stream.play(120, ran_dry=True), 0.0)
        assert sink.stats.buffered_s == waiting, "what the device would drop is not given to it"
        assert sink.underruns == sink.stats.underruns == 1, "one stop is one underrun"
        after = stream.play(120)[:, 0]
        assert after[0] < 0.01 and np.all(np.diff(after) >= 0) and stream.play(120)[0, 0] == pytest.approx(0.5, abs=1e-3)
        stream.play(120, ran_dry=True)
        assert sink.underruns == 1, "it had not run again yet"
        for _ in range(20):
            stream.play(120)
        stream.play(120, ran_dry=True)
        assert sink.underruns == 2

    run(main())


def test_a_device_that_always_says_that_it_runs_dry_plays_all_the_same(sound):
    async def main() -> None:
        sink = DeviceSink(None, 24_000, slack_s=0.05)
        sink.write(np.full(12_000, 0.5, np.float32), 0.0, 0.0)
        out = np.concatenate([sound.streams[0].play(120, ran_dry=True)[:, 0] for _ in range(50)])
        np.testing.assert_array_equal(out[:2400], 0.0)
        assert out[-1] == pytest.approx(0.5, abs=1e-3) and sink.underruns == 0

    run(main())


def test_a_device_that_wants_more_than_there_is_of_a_pause_gets_noise_and_that_is_no_underrun(sound):
    async def main() -> None:
        sink = DeviceSink(None, 24_000, slack_s=0.0)
        sink.write((0.001 * np.random.default_rng(0).standard_normal(2400)).astype(np.float32), 0.0, 0.0, quiet=True)
        out = np.concatenate([sound.streams[0].play(480)[:, 0] for _ in range(50)])
        assert sink.underruns == 0
        assert sink.stats.comfort_s == pytest.approx(0.9, abs=0.01)
        assert 20 * np.log10(np.std(out[12_000:])) == pytest.approx(-60, abs=1)

    run(main())


@pytest.mark.parametrize("rate", [24_000.0, 48_000.0])
def test_a_speaker_says_of_each_packet_when_it_will_be_heard_whatever_the_playout_makes_of_it(rate, monkeypatch):
    sound = FakeSound(rate)
    monkeypatch.setitem(sys.modules, "sounddevice", sound)
    packet_s, block = 0.08, round(0.005 * rate)

    async def main() -> None:
        sink = DeviceSink(None, 24_000)
        [stream] = sound.streams
        stream.latency = 0.01
        # In time, then too late for what was in hand, then all at once, which is given back by playing faster.
        arrivals = [*(packet_s * i for i in range(5)), 0.9, 1.0, 1.02, 1.02, *(1.04 + packet_s * i for i in range(30))]
        heard, begins = [], []
        for i, arrived in enumerate(arrivals):
            while len(heard) * 0.005 < arrived:
                heard.append(stream.play(block)[:, 0])
            ahead_s = sink.write(np.full(1920, 0.3 if i % 2 else -0.3, np.float32), arrived, packet_s * i)
            begins.append(round((len(heard) * 0.005 + ahead_s - sink.device_s) * rate))
        heard += [stream.play(block)[:, 0] for _ in range(60)]
        out = np.concatenate(heard)
        assert sink.underruns >= 1 and sink.stats.shortened_s > 0.03 and not sink.stats.jumps
        near = round(0.0005 * rate)
        # What is in front of a packet is the one before, or silence and the rest of the one before that the resampler had held back.
        assert [(out[at - near] * out[at + near] < 0, np.sign(out[at + near])) for at in begins[1:]] == [
            (True, 1 if i % 2 else -1) for i in range(1, len(begins))
        ]

    run(main())


def test_a_device_that_plays_no_more_does_not_hold_the_program_up(sound, monkeypatch):
    now = [0.0]

    async def sleep(seconds: float) -> None:
        now[0] += seconds

    async def main() -> None:
        monkeypatch.setattr(sinks.time, "monotonic", lambda: now[0])
        monkeypatch.setattr(sinks.asyncio, "sleep", sleep)
        sink = DeviceSink(None, 24_000)
        sink.write(voice(0.2))
        await sink.finish()
        assert now[0] < 3
        assert sound.streams[0].closed

    run(main())


def test_a_speaker_that_was_never_needed_is_closed_without_a_sound(sound):
    async def main() -> None:
        sink = DeviceSink(None, 24_000)
        await sink.finish()
        assert sound.streams[0].closed

    run(main())


def test_a_speaker_that_does_not_start_is_an_error_in_words(sound):
    async def main() -> None:
        sound.fail_on_start = True
        with pytest.raises(DeviceError, match=r"speaker Ear cannot be started: .*Unanticipated host error"):
            DeviceSink(None, 24_000).write(voice(0.1))

    run(main())


def test_what_a_name_stands_for_is_found_out(tmp_path, sound):
    assert isinstance(open_sink("-", 24_000), PipeSink)
    file = open_sink(str(tmp_path / "x.wav"), 24_000)
    assert isinstance(file, FileSink)
    run(file.finish())
    assert isinstance(open_sink(None, 24_000), DeviceSink)
    assert isinstance(open_sink("ear", 24_000), DeviceSink)
    with pytest.raises(AudioError, match=r"heard\.mp3 has the suffix '\.mp3', expected \.wav or \.flac"):
        open_sink(str(tmp_path / "heard.mp3"), 24_000)
    with pytest.raises(DeviceError, match=r"no output device with 'heard' in its name; this machine has 1: Ear"):
        open_sink("heard", 24_000)
    sound.devices = []
    with pytest.raises(DeviceError, match=r"this machine has no output devices"):
        open_sink(None, 24_000)
