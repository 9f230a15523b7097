"""Two virtual sound cards on a PulseAudio server of their own: a room with a microphone in it, and a speaker with an ear in front.

What is played into the room is what a program records from the default input; what a program plays on the default output is what the ear
hears. Programs started with `environment` see these cards and no others.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from streamcodec.audio import resample, write_audio

__all__ = ["RATE", "Recording", "Talk", "VirtualSound", "missing_programs", "spoken_in"]

RATE = 48_000

_SCRIPT = """
load-module module-native-protocol-unix socket={socket} auth-anonymous=1
load-module module-null-sink sink_name=room rate={rate} channels=1 sink_properties=device.description=room
load-module module-null-sink sink_name=speaker rate={rate} channels=1 sink_properties=device.description=speaker
load-module module-remap-source source_name=microphone master=room.monitor source_properties=device.description=microphone
set-default-sink speaker
set-default-source microphone
"""
# The room's own programs give way to those that are measured.
_ASIDE = ("nice", "-n", "10")
_ALSA = "pcm.!default { type pulse }\nctl.!default { type pulse }\n"


def missing_programs() -> list[str]:
    """The programs that this needs and the machine lacks."""
    return [name for name in ("pulseaudio", "pacat", "parec", "pactl") if shutil.which(name) is None]


class Recording:
    """What is heard at a monitor: samples [T] and when the first of them was there, on `time.perf_counter` (s).

    The start is the earliest that any chunk's arrival allows: late by the recorder's own few milliseconds, alike for all recordings.
    """

    def __init__(self, source: str, environment: dict[str, str]) -> None:
        command = [
            *_ASIDE,
            "parec",
            "-d",
            source,
            "--raw",
            "--format=s16le",
            "--channels=1",
            f"--rate={RATE}",
            "--latency-msec=5",
            "--process-time-msec=5",
        ]
        self._process = subprocess.Popen(command, env=environment, stdout=subprocess.PIPE)
        self._chunks: list[bytes] = []
        self.begun = float("inf")
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()

    def _read(self) -> None:
        pipe = self._process.stdout
        assert pipe is not None
        size = 0
        while data := os.read(pipe.fileno(), 65536):
            size += len(data)
            self._chunks.append(data)
            self.begun = min(self.begun, time.perf_counter() - size / 2 / RATE)

    def stop(self) -> npt.NDArray[np.float32]:
        """End the recording and return it."""
        self._process.terminate()
        self._process.wait()
        self._thread.join()
        assert self._process.stdout is not None
        self._process.stdout.close()
        data = b"".join(self._chunks)
        return np.frombuffer(data[: len(data) // 2 * 2], "<i2").astype(np.float32) / np.float32(32768)


@dataclass(frozen=True)
class Talk:
    """What was told in the room and heard at the ear, both [T] at `RATE` Hz.

    The room's recording began at `begun` on `time.perf_counter`, the ear's `offset_s` later.
    """

    told: npt.NDArray[np.float32]
    heard: npt.NDArray[np.float32]
    begun: float
    offset_s: float


def spoken_in(folder: Path, clip: npt.NDArray[np.float32]) -> Path:
    """A WAV file in `folder` of `clip` [T] (24 kHz) with silence around it."""
    spoken = np.concatenate([np.zeros(12_000, np.float32), clip, np.zeros(24_000, np.float32)])
    write_audio(folder / "spoken.wav", resample(spoken, 24_000, RATE), RATE)
    return folder / "spoken.wav"


class VirtualSound:
    """The sound server; use it as a context manager."""

    def __enter__(self) -> Self:
        self._folder = tempfile.TemporaryDirectory(prefix="virtual-sound-")
        home = Path(self._folder.name)
        socket = home / "pulse.socket"
        (home / ".asoundrc").write_text(_ALSA)
        script = home / "script.pa"
        script.write_text(_SCRIPT.format(socket=socket, rate=RATE))
        # Each program asks for the latency that it needs. PULSE_LATENCY_MSEC would override that, in all of them.
        inherited = {name: value for name, value in os.environ.items() if name != "PULSE_LATENCY_MSEC"}
        self.environment = {
            **inherited,
            "HOME": str(home),
            "XDG_RUNTIME_DIR": str(home),
            "XDG_CONFIG_HOME": str(home / "config"),
            "PULSE_SERVER": f"unix:{socket}",
            # HOME is this folder's now; what a model was converted to stays where it is.
            "XDG_CACHE_HOME": os.environ.get("XDG_CACHE_HOME", str(Path.home() / ".cache")),
        }
        self._server = subprocess.Popen(
            ["pulseaudio", "-n", "-F", str(script), "--exit-idle-time=-1", "--daemonize=no", "--use-pid-file=no", "--log-level=error"],
            env=self.environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        give_up = time.monotonic() + 15
        while subprocess.run(["pactl", "info"], env=self.environment, capture_output=True, check=False).returncode:
            if self._server.poll() is not None or time.monotonic() > give_up:
                self.__exit__(None, None, None)
                raise RuntimeError("pulseaudio does not start: is another one running under this user?")
            time.sleep(0.1)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._server.terminate()
        self._server.wait()
        self._folder.cleanup()

    def play_into_room(self, path: Path) -> None:
        """Play a WAV file in front of the microphone; returns when it is over."""
        subprocess.run([*_ASIDE, "paplay", "-d", "room", "--latency-msec=20", str(path)], env=self.environment, check=True)

    def talk(self, path: Path, tail_s: float) -> Talk:
        """Play a WAV file in front of the microphone and record in the room and at the ear until `tail_s` behind its end."""
        room, ear = self.record("room"), self.record("speaker")
        self.play_into_room(path)
        time.sleep(tail_s)
        return Talk(room.stop(), ear.stop(), room.begun, ear.begun - room.begun)

    def record(self, place: str) -> Recording:
        """Begin to record at "room" or "speaker"."""
        return Recording(f"{place}.monitor", self.environment)
