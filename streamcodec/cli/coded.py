"""Files of codes of all kinds, .codes, .ecdc and recordings, as one thing: `encode` and `decode` share it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from streamcodec.errors import CodesError, InputError, printable

if TYPE_CHECKING:
    from pathlib import Path

    from streamcodec.bitstream.codes_file import CodesFile
    from streamcodec.bitstream.ecdc import EcdcFile
    from streamcodec.cli.recorded import RecordedClip
    from streamcodec.codec import Chunk, Codec, LanguageEngine, LevelEngine

__all__ = ["check_fingerprint", "chunks_in", "is_same_kind", "read_coded"]


def read_coded(source: Path) -> CodesFile | EcdcFile | RecordedClip:
    """Read a file of any kind, which its first bytes tell; raises `CodesError`."""
    from streamcodec.bitstream.codes_file import parse_codes
    from streamcodec.bitstream.ecdc import is_ecdc, parse_ecdc
    from streamcodec.bitstream.files import naming, read_file
    from streamcodec.cli.recorded import RecordedClip
    from streamcodec.recording import is_recording

    data = read_file(source)
    if is_recording(data):
        return RecordedClip(source, data)
    with naming(source):
        return parse_ecdc(data) if is_ecdc(data) else parse_codes(data)


def check_fingerprint(codec: Codec, model: str, fingerprint: str) -> None:
    """Raise `InputError` for codes that another model than the codec's made."""
    if not codec.reads(fingerprint):
        raise InputError(f"made with {printable(model)} ({fingerprint}); {codec.name} is {codec.fingerprint}: give its model with --model")


def chunks_in(codec: Codec, file: CodesFile | EcdcFile, language_model: LanguageEngine | LevelEngine | None = None) -> list[Chunk]:
    """The codes of a file as chunks, which is one for most models; raises `InputError` for a file of another model."""
    from streamcodec.bitstream.codes_file import CodesFile
    from streamcodec.codec.chunks import chunks_of
    from streamcodec.codec.ecdc import ecdc_chunks

    if not isinstance(file, CodesFile):
        return ecdc_chunks(codec, file, language_model)
    check_fingerprint(codec, file.model, file.fingerprint)
    try:
        return chunks_of(codec.config, file.codes, file.scales, file.samples)
    except CodesError as exc:
        raise CodesError(f"{exc}: it is damaged") from exc


def is_same_kind(codec: Codec, source: Path, n_q: int, language_model: LanguageEngine | LevelEngine | None) -> bool:
    """Whether a file is whole, of this codec's model and of so many codebooks, coded by that language model."""
    from streamcodec.bitstream.codes_file import CodesFile
    from streamcodec.cli.recorded import RecordedClip
    from streamcodec.codec.ecdc import check_model, lm_in_header

    try:
        file = read_coded(source)
        if isinstance(file, RecordedClip):
            return False
        if isinstance(file, CodesFile):
            return bool(len(chunks_in(codec, file)[0].codes) == n_q)
        check_model(codec, file)
    except InputError:
        return False
    return (file.header.n_q, file.header.lm) == (n_q, lm_in_header(language_model))
