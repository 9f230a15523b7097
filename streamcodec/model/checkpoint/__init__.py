"""Reads, writes and fingerprints checkpoints of every supported layout."""

from streamcodec.model.checkpoint.io import LAYOUTS, PREPROCESSOR_FILE, Layout, files_written, load_file, preprocessor_config, save
from streamcodec.model.checkpoint.layouts import codes_fingerprint, weights_fingerprint

__all__ = [
    "LAYOUTS",
    "PREPROCESSOR_FILE",
    "Layout",
    "codes_fingerprint",
    "files_written",
    "load_file",
    "preprocessor_config",
    "save",
    "weights_fingerprint",
]
