"""Sound files are read as float32 [C, T] and written as WAV or FLAC, and errors say what is wrong with a file."""

import subprocess
import sys

import numpy as np
import pytest
import soundfile as sf

from streamcodec.audio.io.files import bundled_clip, open_audio_blocks, read_audio
from streamcodec.audio.io.writer import AudioWriter, write_audio
from streamcodec.errors import AudioError


@pytest.fixture
def audio():
    return np.random.default_rng(0).uniform(-1, 1, (2, 5_000)).astype(np.float32)


@pytest.mark.parametrize(
    ("name", "subtype", "step"),
    [
        ("a.wav", "PCM_U8", 2**-7),
        ("a.wav", "PCM_16", 2**-15),
        ("a.wav", "PCM_24", 2**-23),
        ("a.wav", "PCM_32", 2**-23),
        ("a.wav", "FLOAT", 0),
        ("a.wav", "DOUBLE", 0),
        ("a.flac", "PCM_16", 2**-15),
        ("a.flac", "PCM_24", 2**-23),
        ("a.aiff", "PCM_16", 2**-15),
    ],
)
def test_every_depth_is_read_as_float(tmp_path, audio, name, subtype, step):
    sf.write(tmp_path / name, audio.T, 44_100, subtype=subtype)
    samples, rate = read_audio(tmp_path / name)
    assert (samples.dtype, samples.shape, rate) == (np.float32, (2, 5_000), 44_100)
    assert samples.flags.c_contiguous
    np.testing.assert_allclose(samples, audio, atol=2 * step)


def test_ogg_is_read(tmp_path):
    sf.write(tmp_path / "a.ogg", np.zeros(4_800, np.float32), 48_000)
    assert read_audio(str(tmp_path / "a.ogg"))[0].shape == (1, 4_800)


@pytest.mark.parametrize("name", ["a.wav", "a.WAV", "a.flac"])
def test_16_bit_audio_survives_a_round_trip_unchanged(tmp_path, name):
    audio = (np.arange(-(2**15), 2**15, 7) / 2**15).astype(np.float32)
    write_audio(tmp_path / name, audio, 24_000)
    samples, rate = read_audio(tmp_path / name)
    assert rate == 24_000
    np.testing.assert_array_equal(samples, audio[None])


def test_16_bits_saturate_and_floats_do_not(tmp_path):
    write_audio(tmp_path / "a.wav", np.array([2, -2], np.float32), 8_000)
    write_audio(tmp_path / "b.wav", np.array([2, -2], np.float32), 8_000, "float")
    assert read_audio(tmp_path / "a.wav")[0].tolist() == [[32767 / 32768, -1]]
    assert read_audio(tmp_path / "b.wav")[0].tolist() == [[2, -2]]


@pytest.mark.parametrize("block_s", [0.01, 0.5, 10.0, 1e-9])
def test_blocks_put_together_are_the_file(tmp_path, audio, block_s):
    write_audio(tmp_path / "a.wav", audio[:, :500], 8_000, "float")
    blocks = open_audio_blocks(tmp_path / "a.wav", block_s)
    assert (blocks.rate, blocks.channels, blocks.frames, blocks.duration_s) == (8_000, 2, 500, 0.0625)
    parts = list(blocks)
    assert all(part.shape[1] == max(1, round(block_s * 8_000)) for part in parts[:-1])
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), audio[:, :500])
    assert list(blocks) == []


def test_blocks_can_be_left_early(tmp_path, audio):
    write_audio(tmp_path / "a.wav", audio, 8_000)
    with open_audio_blocks(tmp_path / "a.wav", 0.1) as blocks:
        assert next(iter(blocks)).shape == (2, 800)
    assert list(blocks) == []


def test_files_that_cannot_be_read_are_refused_by_what_is_wrong(tmp_path):
    (tmp_path / "empty.wav").touch()
    (tmp_path / "text.wav").write_text("no audio, only words")
    (tmp_path / "bare.raw").write_bytes(bytes(100))
    sf.write(tmp_path / "none.wav", np.zeros(0), 8_000)
    for name, message in [
        ("absent.wav", r"there is no file .*absent\.wav"),
        ("", "is a folder"),
        ("empty.wav", "is an empty file"),
        ("text.wav", "is not audio that can be read, expected WAV, FLAC"),
        ("bare.raw", "is not audio that can be read"),
        ("none.wav", "holds no samples"),
    ]:
        for read in (read_audio, open_audio_blocks):
            with pytest.raises(AudioError, match=message):
                read(tmp_path / name)


@pytest.mark.parametrize("block_s", [0, -1, float("nan")])
def test_blocks_of_no_length_are_refused(tmp_path, block_s):
    with pytest.raises(AudioError, match="expected seconds above 0"):
        open_audio_blocks(tmp_path / "a.wav", block_s)


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("a.mp3", {}, r"suffix '\.mp3', expected \.wav or \.flac"),
        ("a", {}, r"suffix '', expected"),
        ("a.flac", {"encoding": "float"}, r"'float' for a \.flac file, expected 'pcm16'"),
        ("a.wav", {"encoding": "mp3"}, r"expected 'pcm16' or 'float'"),
        ("a.wav", {"rate": 10}, "sampling rate is 10"),
        ("a.wav", {"rate": 8_000.5}, "expected whole Hz"),
        ("a.wav", {"channels": 0}, "channels is 0, expected 1 to 8"),
        ("no/a.wav", {}, "there is no folder"),
        ("folder.wav", {}, "is a folder"),
    ],
)
def test_files_that_cannot_be_written_are_refused(tmp_path, name, options, message):
    (tmp_path / "folder.wav").mkdir()
    with pytest.raises(AudioError, match=message):
        AudioWriter(tmp_path / name, **options)


@pytest.mark.parametrize("encoding", ["pcm16", "float"])
def test_a_wav_is_whole_even_if_its_program_is_killed(tmp_path, encoding):
    code = (
        "import os, sys, numpy as np\n"
        "from streamcodec.audio.io.writer import AudioWriter\n"
        "writer = AudioWriter(sys.argv[1], 24_000, encoding=sys.argv[2])\n"
        "for _ in range(3): writer.write(np.full(1_000, 0.5, np.float32))\n"
        "os._exit(9)\n"
    )
    assert subprocess.run([sys.executable, "-c", code, tmp_path / "a.wav", encoding], check=False).returncode == 9
    samples, _ = read_audio(tmp_path / "a.wav")
    assert samples.shape == (1, 3_000)
    assert (samples == 0.5).all()


@pytest.mark.parametrize("name", ["a.wav", "a.flac"])
def test_an_interrupted_recording_is_whole(tmp_path, name):
    with pytest.raises(KeyboardInterrupt), AudioWriter(tmp_path / name, 24_000) as writer:
        writer.write(np.full(1_000, 0.25, np.float32))
        raise KeyboardInterrupt
    assert (read_audio(tmp_path / name)[0] == 0.25).all()
    assert writer.frames == 1_000


def test_a_flac_without_an_end_is_read_to_where_it_stops(tmp_path):
    code = (
        "import os, sys, numpy as np\n"
        "from streamcodec.audio.io.writer import AudioWriter\n"
        "writer = AudioWriter(sys.argv[1])\n"
        "writer.write(np.random.default_rng(0).uniform(-1, 1, 50_000).astype(np.float32))\n"
        "os._exit(0)\n"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path / "a.flac"], check=True)
    samples, _ = read_audio(tmp_path / "a.flac")
    assert 50_000 - 4_096 <= samples.shape[1] <= 50_000


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        (np.zeros((2, 3), np.float32), r"shape \[2, 3\], expected \[1, T\]"),
        (np.array([np.nan], np.float32), "NaN or infinity"),
    ],
)
def test_samples_that_do_not_fit_the_file_are_refused(tmp_path, samples, message):
    with AudioWriter(tmp_path / "a.wav") as writer, pytest.raises(AudioError, match=message):
        writer.write(samples)


def test_a_closed_writer_takes_no_more(tmp_path):
    writer = AudioWriter(tmp_path / "a.wav")
    writer.close()
    writer.close()
    with pytest.raises(AudioError, match="is closed"):
        writer.write(np.zeros(1, np.float32))


def test_the_bundled_clip_is_ten_seconds_of_levelled_speech():
    samples, rate = bundled_clip()
    assert (samples.dtype, samples.ndim, rate) == (np.float32, 1, 24_000)
    assert 10 <= len(samples) / rate <= 12
    assert 20 * np.log10(np.sqrt(np.mean(samples**2))) == pytest.approx(-23, abs=0.1)
    assert np.abs(samples).max() < 0.71
