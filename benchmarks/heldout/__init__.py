"""Held-out clips: real speech, and some music, of sources that no embedded model was trained on and that anyone can fetch.

    python -m benchmarks.heldout corpus    # downloads Debian packages with apt-get, unpacks them, and builds a corpus of them

The training recipe's own corpus serves as well: the same selection comes out of it, since offsets count from a source's first sample.
"""

from benchmarks.heldout.clips import Clip, Corpus, add_options, chosen, describe, main, select, tell

__all__ = ["Clip", "Corpus", "add_options", "chosen", "describe", "main", "select", "tell"]
