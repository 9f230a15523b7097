"""The demo carries speech through everything, says where the time went, and leaves what was spoken, what was heard, and a picture."""

from __future__ import annotations

import asyncio
import functools
import re
import sys
from pathlib import Path

import numpy as np
import pytest
from fake_sound import FakeSound
from live_rig import command, run, tiny_codec, voice
from made_up_models import small_model
from parity import assert_same_codes
from patience import patient_limits

from streamcodec.audio import bundled_clip, read_audio, write_audio
from streamcodec.cli import main
from streamcodec.cli.demo_report import STAGES
from streamcodec.client import Player
from streamcodec.errors import AudioError, CodesError, InputError
from streamcodec.protocol import Packet, unpack_codes
from streamcodec.server import Server


@pytest.fixture(autouse=True)
def _patient(monkeypatch):
    """The demo's own server waits for a slow machine."""
    monkeypatch.setattr("streamcodec.server.Server", functools.partial(Server, limits=patient_limits()))


def demonstrate(tmp_path: Path, *argv: str | Path) -> int:
    status: int = run(command("demo", "--output", tmp_path / "out", "--model", small_model(), "--quiet", *argv))
    return status


def wav(path: Path) -> np.ndarray:
    samples, rate = read_audio(path)
    assert rate == 24_000
    return samples[0]


def test_the_bundled_clip_is_heard_as_the_codec_decodes_it_and_everything_is_written(tmp_path, capsys, monkeypatch):
    packets, feed = [], Player.feed

    def noted(player, event):
        packets.extend([unpack_codes(event.payload, event.n_q, 10)] if isinstance(event, Packet) else [])
        return feed(player, event)

    monkeypatch.setattr(Player, "feed", noted)
    assert demonstrate(tmp_path, "--clip", "--silent", "--seconds", "1.5") == 0
    said = capsys.readouterr()
    out = tmp_path / "out"
    spoken, heard = wav(out / "spoken.wav"), wav(out / "heard.wav")
    clip, _ = bundled_clip()
    np.testing.assert_array_equal(spoken, clip[: len(spoken)])
    assert 1.5 * 24_000 <= len(spoken) <= 1.54 * 24_000
    codec = tiny_codec("test")
    encoder, decoder = codec.stream_encoder(), codec.stream_decoder()
    codes = np.concatenate(packets, axis=1)
    assert_same_codes(codec, codes, np.concatenate([*encoder.feed(spoken), *encoder.flush()], axis=1), spoken, "primed")
    np.testing.assert_allclose(heard, np.concatenate([decoder.feed(codes), decoder.flush()]), atol=1e-4)

    assert re.search(r"^(\d+) packets of 80\.0 ms published, \1 heard, 0 lost$", said.out, re.M)
    stages = [*STAGES, "all together"]
    rows = {m[1].strip(): [float(v) for v in m[2].split()] for m in re.finditer(r"^([a-z ]+?)((?: +\d+\.\d){4})$", said.out, re.M)}
    assert list(rows) == stages
    for name, values in rows.items():
        assert values == sorted(values), name
        assert values[0] >= 0
    assert f"written to {out}: spoken.wav, heard.wav, demo.png" in said.out
    assert "the bundled clip -> server -> memory" in said.err
    png = (out / "demo.png").read_bytes()
    assert png.startswith(b"\x89PNG") and png.endswith(b"IEND\xaeB`\x82")


def test_a_stereo_file_of_another_rate_and_other_packets_are_as_good(tmp_path, capsys):
    write_audio(tmp_path / "x.wav", voice(0.5, 44_100, channels=2), 44_100)
    assert demonstrate(tmp_path, "--input", tmp_path / "x.wav", "--silent", "--packet-frames", "2", "--bandwidth", "1.5") == 0
    assert "19 packets of 26.7 ms published, 19 heard" in capsys.readouterr().out
    assert len(wav(tmp_path / "out" / "spoken.wav")) == 12_000


def test_where_there_is_no_sound_card_it_says_so_and_goes_on(tmp_path, capsys, monkeypatch):
    fake = FakeSound()
    fake.devices = []
    monkeypatch.setitem(sys.modules, "sounddevice", fake)
    assert demonstrate(tmp_path, "--seconds", "0.3") == 0
    said = capsys.readouterr().err
    assert re.search(r"no microphone \(.*this machine has no input devices\): using the bundled clip", said)
    assert re.search(r"no speaker \(.*this machine has no output devices\): recording only", said)


def test_without_matplotlib_there_is_no_picture_but_the_rest(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    assert demonstrate(tmp_path, "--clip", "--silent", "--seconds", "0.3") == 0
    said = capsys.readouterr().out
    assert "the picture needs matplotlib: pip install 'streamcodec[plots]'" in said
    assert said.endswith("spoken.wav, heard.wav\n")
    assert not (tmp_path / "out" / "demo.png").exists()


def test_a_clip_shorter_than_a_packet_is_one_short_packet(tmp_path, capsys):
    write_audio(tmp_path / "x.wav", voice(0.01), 24_000)
    assert demonstrate(tmp_path, "--input", tmp_path / "x.wav", "--silent") == 0
    assert "1 packets of 80.0 ms published" in capsys.readouterr().out
    assert len(wav(tmp_path / "out" / "heard.wav")) == 320


def test_a_clip_too_short_for_a_single_sample_is_refused(tmp_path):
    write_audio(tmp_path / "x.wav", np.zeros(1, np.float32), 192_000)
    with pytest.raises(InputError, match="too short for a single packet"):
        demonstrate(tmp_path, "--input", tmp_path / "x.wav", "--silent")


def test_an_empty_file_is_refused(tmp_path):
    write_audio(tmp_path / "x.wav", np.zeros(0, np.float32), 24_000)
    with pytest.raises(AudioError, match="holds no samples"):
        demonstrate(tmp_path, "--input", tmp_path / "x.wav", "--silent")


def test_a_missing_file_is_refused(tmp_path):
    with pytest.raises(AudioError, match="there is no file"):
        demonstrate(tmp_path, "--input", tmp_path / "x.wav", "--silent")


def test_an_unknown_bandwidth_is_refused_before_anything_starts(tmp_path, capsys):
    with pytest.raises(CodesError, match=r"this model has 1\.5, 3, 6, 12, 24 kbps"):
        demonstrate(tmp_path, "--clip", "--silent", "--bandwidth", "5")
    assert capsys.readouterr().out == ""


def test_a_folder_that_cannot_be_made_is_refused(tmp_path):
    (tmp_path / "out").write_text("in the way")
    with pytest.raises(InputError, match="out cannot be the folder for the results: "):
        demonstrate(tmp_path, "--clip", "--silent")


@pytest.mark.parametrize(
    "argv",
    [("--clip", "--input", "x.wav"), ("--seconds", "0"), ("--seconds", "nan"), ("--seconds", "-1"), ("--threads", "0")],
    ids=" ".join,
)
def test_what_makes_no_sense_is_no_command_line(argv, capsys):
    assert main(["demo", *argv]) == 2
    said = capsys.readouterr().err
    assert said.startswith("streamcodec demo: ") and said.count("\n") == 1
    assert "not allowed with --input" in said or "is no " in said


def test_an_interrupt_leaves_nothing_running(tmp_path):
    async def interrupted() -> None:
        task = asyncio.ensure_future(command("demo", "--output", tmp_path, "--model", small_model(), "--quiet", "--clip", "--silent"))
        await asyncio.sleep(0)
        before = asyncio.all_tasks()
        while len(asyncio.all_tasks()) < len(before) + 4:  # noqa: ASYNC110 - until server, publisher and listener run
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert asyncio.all_tasks() <= before

    run(interrupted())
