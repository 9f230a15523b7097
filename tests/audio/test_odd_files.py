"""Sound files as the world writes them: joined, cut off, without a length, through a pipe; none is read in part without a word."""

from __future__ import annotations

import os
import struct
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
import soundfile as sf

from streamcodec.audio import AudioWriter, open_audio_blocks, read_audio
from streamcodec.audio.io import wav
from streamcodec.errors import AudioError, MissingDependencyError

RATE = 24_000
FORMATS = {
    "wav": {},
    "flac": {},
    "ogg": {},
    "mp3": {},
    "opus": {"format": "OGG", "subtype": "OPUS"},
    "aiff": {},
    "au": {},
    "caf": {},
    "w64": {},
    "rf64": {"format": "RF64"},
}


def noise(samples: int = 30_000) -> np.ndarray:
    return np.random.default_rng(0).uniform(-0.5, 0.5, samples).astype(np.float32)


def written(folder: Path, kind: str, samples: np.ndarray | None = None, rate: int = RATE) -> bytes:
    path = folder / f"written.{kind}"
    sf.write(path, noise() if samples is None else samples, rate, **{"subtype": None, "format": None, **FORMATS[kind]})
    return path.read_bytes()


def stored(folder: Path, data: bytes, name: str = "x") -> Path:
    (folder / name).write_bytes(data)
    return folder / name


@pytest.mark.parametrize("kind", FORMATS)
def test_every_format_is_read_whole(tmp_path, kind):
    samples, rate = read_audio(stored(tmp_path, written(tmp_path, kind)))
    assert (samples.shape, rate) == ((1, 30_000), RATE)


@pytest.mark.parametrize("kind", ["ogg", "opus", "mp3", "flac", "wav"])
def test_joined_files_are_read_to_the_end(tmp_path, kind):
    one = written(tmp_path, kind)
    alone, _ = read_audio(stored(tmp_path, one))
    path = stored(tmp_path, one + one + one)
    with open_audio_blocks(path, 0.7) as blocks:
        assert blocks.frames == 3 * alone.shape[1]
        joined = list(blocks)
    assert all(block.shape[1] == round(0.7 * RATE) for block in joined[:-1])
    np.testing.assert_array_equal(np.concatenate(joined, axis=1), np.tile(alone, 3))


def test_joined_files_of_two_rates_are_refused(tmp_path):
    path = stored(tmp_path, written(tmp_path, "ogg") + written(tmp_path, "ogg", rate=48_000))
    with pytest.raises(AudioError, match=r"is 2 files in one: the first has 24000 Hz and 1 channel\(s\), another 48000 Hz and 1"):
        read_audio(path)


@pytest.mark.parametrize("kind", FORMATS)
@pytest.mark.parametrize("share", [0.3, 0.66, 0.97])
def test_a_file_that_was_cut_off_is_refused(tmp_path, kind, share):
    whole = written(tmp_path, kind)
    with pytest.raises(AudioError, match=r"was cut off or is damaged|is damaged|is not audio that can be read"):
        read_audio(stored(tmp_path, whole[: int(len(whole) * share)]))


def with_sizes(data: bytes, riff: int, size: int) -> bytes:
    at = data.index(b"data") + 4
    return data[:4] + struct.pack("<I", riff) + data[8:at] + struct.pack("<I", size) + data[at + 4 :]


@pytest.mark.parametrize(
    ("riff", "size"),
    [(0, 0), (8, 0), (36, 0), (0xFFFFFFFF, 0xFFFFFFFF), (0x7FFFFFFF, 0x7FFFFFDB), (0x80000024, 0x80000000), (0, 0xFFFFFFFF)],
)
def test_a_wav_that_does_not_know_its_length_is_read_and_told(tmp_path, caplog, riff, size):
    path = stored(tmp_path, with_sizes(written(tmp_path, "wav"), riff, size))
    samples, _ = read_audio(path)
    np.testing.assert_allclose(samples[0], noise(), atol=2**-14)
    assert f"{path} does not say how long it is" in caplog.text


def test_a_64_bit_wav_that_does_not_know_its_length_is_read_and_told(tmp_path, caplog):
    data = bytearray(written(tmp_path, "rf64"))
    at = data.index(b"ds64") + 8
    data[at : at + 24] = bytes(24)
    assert read_audio(stored(tmp_path, bytes(data)))[0].shape == (1, 30_000)
    assert "does not say how long it is" in caplog.text


def without_length(flac: bytes) -> bytes:
    """A FLAC as an encoder leaves it in a pipe: STREAMINFO has 36 bits for the number of samples, all zero."""
    data = bytearray(flac)
    data[21] &= 0xF0
    data[22:26] = bytes(4)
    return bytes(data)


@pytest.mark.parametrize("share", [1.0, 0.7])
def test_a_flac_that_does_not_know_its_length_is_read_and_told(tmp_path, caplog, share):
    data = without_length(written(tmp_path, "flac"))
    path = stored(tmp_path, data[: int(len(data) * share)])
    with open_audio_blocks(path, 0.1) as blocks:
        assert (blocks.frames, blocks.duration_s) == (None, None)
        samples = np.concatenate(list(blocks), axis=1)[0]
    assert samples.size == 30_000 if share == 1 else 15_000 < samples.size < 30_000
    np.testing.assert_allclose(samples, noise()[: samples.size], atol=2**-14)
    assert f"{path} does not say how long it is" in caplog.text


@pytest.mark.parametrize("kind", ["wav", "flac", "ogg", "mp3"])
def test_a_pipe_is_read_as_a_file(tmp_path, kind):
    data = written(tmp_path, kind)
    os.mkfifo(tmp_path / "pipe")
    feeding = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(data))
    feeding.start()
    samples, _ = read_audio(tmp_path / "pipe")
    feeding.join()
    assert samples.shape == (1, 30_000)


def test_a_pipe_that_gives_nothing_is_told(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    feeding = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(b""))
    feeding.start()
    with pytest.raises(AudioError, match="pipe gave nothing, expected audio"):
        read_audio(tmp_path / "pipe")
    feeding.join()


def test_a_wrong_sample_is_named_with_its_file_and_place(tmp_path):
    samples = np.zeros((60_000, 2), np.float32)
    samples[50_001, 1] = np.nan
    sf.write(tmp_path / "x.wav", samples, RATE, "FLOAT")
    with pytest.raises(AudioError, match=r"x\.wav holds nan at sample 50001 of channel 1, expected finite samples"):
        list(open_audio_blocks(tmp_path / "x.wav", 0.5))
    samples[50_001, 1] = 12_345
    sf.write(tmp_path / "x.wav", samples, RATE, "FLOAT")
    with pytest.raises(AudioError, match=r"x\.wav holds 12345 at sample 50001 of channel 1: it looks like integers"):
        read_audio(tmp_path / "x.wav")


def test_more_channels_than_are_mixed_are_refused(tmp_path):
    sf.write(tmp_path / "x.wav", np.zeros((100, 12), np.float32), RATE)
    with pytest.raises(AudioError, match=r"x\.wav has 12 channels, expected at most 8"):
        open_audio_blocks(tmp_path / "x.wav")


def test_a_name_that_is_no_utf_8_is_read_and_written(tmp_path):
    for name in ("\udcff.wav", "\udcff.flac"):
        with AudioWriter(tmp_path / name) as writer:
            writer.write(noise(1_000))
        assert read_audio(tmp_path / name)[0].shape == (1, 1_000)


@pytest.mark.parametrize(("name", "encoding"), [("x.wav", "pcm16"), ("x.wav", "float"), ("x.flac", "pcm16")])
def test_a_full_disk_leaves_a_recording_that_can_be_read(tmp_path, full_disk, name, encoding):
    writer = AudioWriter(tmp_path / name, encoding=encoding)
    with full_disk(40_001), pytest.raises(AudioError, match=r"x\.\w+ cannot be written: File too large"):
        for at in range(0, 30_000, 1_000):
            writer.write(noise()[at : at + 1_000])
    with full_disk(40_001):
        try:
            writer.close()
        except AudioError as error:
            assert "File too large" in str(error)
    samples, _ = read_audio(tmp_path / name)
    assert samples.shape[1] > 8_000
    np.testing.assert_allclose(samples[0], noise()[: samples.shape[1]], atol=2**-14)


def test_a_recording_appears_with_its_first_samples_and_replaces_nothing_before(tmp_path):
    for name in ("x.wav", "x.flac"):
        path = stored(tmp_path, b"precious", name)
        with AudioWriter(path) as writer:
            writer.write(np.zeros(0, np.float32))
            assert path.read_bytes() == b"precious"
        assert path.read_bytes() == b"precious"
        with AudioWriter(path) as writer:
            writer.write(noise(100))
            assert path.read_bytes() != b"precious"
        assert read_audio(path)[0].shape == (1, 100)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.flac", "x.wav"]


def test_a_whole_file_appears_only_when_it_is_complete(tmp_path):
    path = stored(tmp_path, b"precious", "x.wav")
    with pytest.raises(KeyboardInterrupt), AudioWriter(path, whole=True) as writer:
        writer.write(noise(100))
        raise KeyboardInterrupt
    assert path.read_bytes() == b"precious"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["x.wav"]


def header(path: Path) -> tuple[bytes, int, bytes, int]:
    """The names and sizes of a WAV that `AudioWriter` wrote: of the file, of its room for 64 bits, and of its samples."""
    data = path.read_bytes()
    return data[:4], struct.unpack("<I", data[4:8])[0], data[12:16], struct.unpack("<I", data[76:80])[0]


@pytest.mark.parametrize("encoding", ["pcm16", "float"])
def test_a_wav_is_right_after_every_write(tmp_path, encoding):
    width = 2 if encoding == "pcm16" else 4
    with AudioWriter(tmp_path / "x.wav", encoding=encoding) as writer:
        for count in range(1, 4):
            writer.write(noise(1_000))
            size = 1_000 * count * width
            assert header(tmp_path / "x.wav") == (b"RIFF", 72 + size, b"JUNK", size)
            assert (tmp_path / "x.wav").stat().st_size == 80 + size


def test_a_wav_beyond_its_limit_becomes_one_with_64_bits(tmp_path, monkeypatch):
    monkeypatch.setattr(wav, "MAX_RIFF_BYTES", 5_000)
    with AudioWriter(tmp_path / "x.wav") as writer:
        for at in range(0, 5_000, 1_000):
            writer.write(noise()[at : at + 1_000])
            assert header(tmp_path / "x.wav")[0] == (b"RIFF" if at < 2_000 else b"RF64")
            assert read_audio(tmp_path / "x.wav")[0].shape == (1, at + 1_000)
    assert sf.info(tmp_path / "x.wav").format == "RF64"
    np.testing.assert_allclose(read_audio(tmp_path / "x.wav")[0][0], noise(5_000), atol=2**-14)


def test_25_hours_are_read_back(tmp_path):
    """The samples of the middle are a hole in the file, so that it takes no room."""
    frames = 25 * 3600 * RATE
    with AudioWriter(tmp_path / "x.wav") as writer:
        writer.write(noise(1_000))
        body = writer._body
        assert isinstance(body, wav.WavBody)
        writer._output.file.seek(80 + 2 * (frames - 1_000))
        body._size = 2 * (frames - 1_000)
        writer.write(noise(1_000))
    with sf.SoundFile(tmp_path / "x.wav") as file:
        assert file.frames == frames
        file.seek(frames - 1_000)
        np.testing.assert_allclose(file.read(dtype="float32"), noise(1_000), atol=2**-14)
    with open_audio_blocks(tmp_path / "x.wav") as blocks:
        assert blocks.frames == frames


def media(path: Path, seconds: float = 2.0, channels: int = 2) -> Path:
    """A file that libsndfile does not read."""
    av = pytest.importorskip("av")
    t = np.arange(round(seconds * 48_000)) / 48_000
    tone = np.stack([np.sin(2 * np.pi * 440 * t) * (0.5 - 0.25 * c) for c in range(channels)]).astype(np.float32)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(
            "libopus" if path.suffix == ".webm" else "aac", rate=48_000, layout="stereo" if channels == 2 else "mono"
        )
        for at in range(0, tone.shape[1], 960):
            frame = av.AudioFrame.from_ndarray(np.ascontiguousarray(tone[:, at : at + 960]), format="fltp", layout=stream.layout.name)
            frame.sample_rate, frame.pts = 48_000, at
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("name", ["x.m4a", "x.mp4", "x.webm", "x.aac", "renamed.wav"])
def test_media_files_are_read_if_pyav_is_there(tmp_path, caplog, name):
    path = media(tmp_path / ("x.m4a" if name == "renamed.wav" else name))
    path = path.rename(tmp_path / name)
    samples, rate = read_audio(path)
    assert (rate, samples.shape[0]) == (48_000, 2)
    assert samples.shape[1] == pytest.approx(96_000, abs=3_000)
    assert name == "x.aac" or not caplog.text, "a bare AAC has no header that could tell its length"
    middle = samples[:, 40_000:50_000]
    np.testing.assert_allclose(np.abs(middle).max(axis=1), [0.5, 0.25], rtol=0.15)
    blocks = list(open_audio_blocks(path, 0.5))
    assert [block.shape[1] for block in blocks[:-1]] == [24_000] * (len(blocks) - 1)
    np.testing.assert_array_equal(np.concatenate(blocks, axis=1), samples)


@pytest.mark.parametrize("name", ["x.m4a", "x.webm"])
def test_media_files_that_were_cut_off_are_refused(tmp_path, name):
    data = media(tmp_path / name).read_bytes()
    with pytest.raises(AudioError, match=r"was cut off or is damaged|is not audio that can be read"):
        read_audio(stored(tmp_path, data[: len(data) // 2], f"cut-{name}"))


def test_a_media_file_says_what_helps_without_pyav(tmp_path, monkeypatch):
    path = stored(tmp_path, b"\0\0\0\x20ftypM4A " + bytes(100), "talk.m4a")
    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(
        MissingDependencyError, match=r"pip install 'streamcodec\[formats\]', or convert it: ffmpeg -i .*talk\.m4a talk\.wav"
    ):
        read_audio(path)
