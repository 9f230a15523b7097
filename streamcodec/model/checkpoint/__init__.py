"""Reads, writes and fingerprints checkpoints of every supported layout."""

from streamcodec.model.checkpoint.io import LAYOUTS, Layout, load_file, save
from streamcodec.model.checkpoint.layouts import fingerprint

__all__ = ["LAYOUTS", "Layout", "fingerprint", "load_file", "save"]
