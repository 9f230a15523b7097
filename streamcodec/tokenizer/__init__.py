"""A frozen tokenizer for training programs: folders of audio become folders of codes, which a `TokenDataset` reads."""

from streamcodec.tokenizer.dataset import TokenDataset
from streamcodec.tokenizer.files import EncodedFile, encode_files, write_encoded
from streamcodec.tokenizer.folder import JobOutcome, TokenizerJob, is_done, tokenize
from streamcodec.tokenizer.manifest import Manifest, ManifestEntry, ManifestHeader, header_of, read_manifest

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
