"""The commands that code clips run where torch cannot be imported."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
from parity import assert_same_codes

from streamcodec.audio import read_audio
from streamcodec.bitstream.codes_file import read_codes

SCRIPT = """
import sys
for package in ("torch", "numba", "llvmlite", "openvino", "huggingface_hub"):
    sys.modules[package] = None
from streamcodec.cli import main
sys.exit(main(["encode", "talk.wav"]) or main(["decode", "talk.codes", "heard.wav"]))
"""


def test_files_are_encoded_and_decoded_where_torch_cannot_be_imported(here, speech_file, speech_codec):
    environment = {name: value for name, value in os.environ.items() if name != "STREAMCODEC_ENGINE"}
    done = subprocess.run([sys.executable, "-c", SCRIPT], capture_output=True, text=True, check=False, cwd=here, env=environment)
    assert done.returncode == 0, done.stderr
    samples = read_audio(speech_file)[0][0]
    codes = read_codes(here / "talk.codes").codes
    assert_same_codes(speech_codec, codes, speech_codec.encode(samples), samples)
    heard = read_audio(here / "heard.wav")[0][0]
    np.testing.assert_allclose(heard, speech_codec.decode(codes)[: len(samples)], atol=1.5 / 32_768)  # 16 bits
