"""Reads, writes and fingerprints checkpoints of every supported layout."""

from streamcodec.model.checkpoint.io import LAYOUTS, Layout, files_written, load_file, save
from streamcodec.model.checkpoint.layouts import codes_fingerprint, weights_fingerprint

__all__ = ["LAYOUTS", "Layout", "codes_fingerprint", "files_written", "load_file", "save", "weights_fingerprint"]
