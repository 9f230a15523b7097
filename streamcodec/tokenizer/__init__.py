"""A frozen tokenizer for training programs: folders of audio become folders of codes, which a `TokenDataset` reads.

That name is resolved when it is first used, because it is the only one that needs torch.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from streamcodec.tokenizer.files import EncodedFile, encode_files, write_encoded
from streamcodec.tokenizer.folder import JobOutcome, TokenizerJob, is_done, tokenize
from streamcodec.tokenizer.manifest import Manifest, ManifestEntry, ManifestHeader, header_of, read_manifest

if TYPE_CHECKING:
    from streamcodec.tokenizer.dataset import TokenDataset

__all__ = [
    "EncodedFile",
    "JobOutcome",
    "Manifest",
    "ManifestEntry",
    "ManifestHeader",
    "TokenDataset",
    "TokenizerJob",
    "encode_files",
    "header_of",
    "is_done",
    "read_manifest",
    "tokenize",
    "write_encoded",
]


def __getattr__(name: str) -> Any:
    if name == "TokenDataset":
        return import_module("streamcodec.tokenizer.dataset").TokenDataset
    raise AttributeError(f"module 'streamcodec.tokenizer' has no attribute {name!r}")
