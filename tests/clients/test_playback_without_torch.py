"""A listener decodes codes where torch cannot be imported: `pip install 'streamcodec[play]'` is all that it needs."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from live_rig import run, tapped, until
from patience import patient_limits

import streamcodec
from streamcodec.audio import read_audio
from streamcodec.client import PublishOptions, publish
from streamcodec.server import Server

ROOT = Path(__file__).resolve().parents[2]
# One step of 16 bits, and what sums in another order may add.
STEP = 1.5 / 32_768

ABSENT = """
import sys
for package in ("torch", "numba", "llvmlite", "openvino", "huggingface_hub", "sounddevice"):
    sys.modules[package] = None
"""
PROGRAMS = {
    "the program": "from clients.playback import main; main(sys.argv[1:])",
    "the command": "from streamcodec.cli import main; sys.exit(main(['play', '--no-retry', *sys.argv[1:]]))",
}


@pytest.mark.parametrize("program", PROGRAMS)
def test_a_listener_decodes_codes_where_torch_cannot_be_imported(
    program: str, tmp_path: Path, speech_codec: streamcodec.Codec, speech: npt.NDArray[np.float32]
) -> None:
    heard = tmp_path / "heard.wav"
    script = ABSENT + PROGRAMS[program]
    environment = {name: value for name, value in os.environ.items() if name != "STREAMCODEC_ENGINE"}

    async def main() -> Any:
        async with Server(speech_codec, port=0, limits=patient_limits()) as server, tapped(server) as tap:
            listener = await asyncio.create_subprocess_exec(
                *(sys.executable, "-c", script, "--server", server.url, "--output", str(heard)),
                stdout=asyncio.subprocess.PIPE,
                stderr=asyncio.subprocess.PIPE,
                cwd=ROOT,
                env=environment,
            )
            talking = asyncio.create_task(listener.communicate())
            await until(lambda: server.registry.num_listeners >= 2 or talking.done())
            async with publish(server.url, "live", PublishOptions(pace="fast")) as publisher:
                await publisher.send(speech[30_000:60_000])
            _, said = await talking
            assert listener.returncode == 0, said.decode()
        return tap

    tap = run(main())
    np.testing.assert_allclose(read_audio(heard)[0][0], speech_codec.decode(tap.codes), atol=STEP)
