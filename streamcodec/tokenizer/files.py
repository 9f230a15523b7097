"""From audio files to files of codes: several files share the steps of the model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from streamcodec.audio import AudioBlocks, open_audio_blocks
from streamcodec.audio.dsp.resample import resampled_length
from streamcodec.bitstream.codes_file import CodesFile, write_codes
from streamcodec.bitstream.files import write_file
from streamcodec.codec import Chunk, Codec, LanguageEngine, LevelEngine
from streamcodec.codec.chunks import clip_of
from streamcodec.codec.ecdc import to_ecdc
from streamcodec.codec.together import BlocksOfClip, encode_together
from streamcodec.errors import InputError, StreamCodecError
from streamcodec.types import Codes, Samples

__all__ = ["EncodedFile", "encode_files", "write_encoded"]

Advance = Callable[[float], None]
"""Is told how many seconds of audio more are done."""


@dataclass(frozen=True)
class EncodedFile:
    """What an audio file became: what `Codec.encode_blocks` gives, its samples at the codec's rate, and its length in seconds."""

    packets: Sequence[Codes | Chunk]
    samples: int
    duration_s: float

    @property
    def codes(self) -> Codes:
        """All codes [n_q, frames]; where a model codes chunks, one behind the other."""
        return clip_of(self.packets)[0]


Found = EncodedFile | StreamCodecError | OSError


def encode_files(codec: Codec, sources: Sequence[Path], bandwidth: float | None, advance: Advance) -> Iterator[tuple[int, Found]]:
    """Encode audio files: pairs of a file's index and what became of it, as each is done.

    Files share the steps of a model that codes frame by frame; those of about one length are encoded fastest. A file that cannot be read
    is an error that comes instead, and the others go on. Raises `CodesError` for a bandwidth that the model does not have.
    """
    n_q = codec.config.n_q_for(bandwidth)
    if codec.config.granularity == "frames":
        yield from _encode_together(codec, sources, n_q, advance)
        return
    for index, source in enumerate(sources):
        try:
            with open_audio_blocks(source) as file:
                reader = _Reader(index, file, advance)
                reader.packets += codec.encode_blocks(reader, file.rate, file.channels, bandwidth)
        except (StreamCodecError, OSError) as error:
            yield index, error
        else:
            yield index, reader.encoded(codec) if reader.packets else _too_short(codec, source)


def _encode_together(codec: Codec, sources: Sequence[Path], n_q: int, advance: Advance) -> Iterator[tuple[int, Found]]:
    with ExitStack() as opened:
        readers: list[_Reader] = []
        for index, source in enumerate(sources):
            try:
                readers.append(_Reader(index, opened.enter_context(open_audio_blocks(source)), advance))
            except (StreamCodecError, OSError) as error:
                yield index, error
        clips = [BlocksOfClip(reader, reader.file.rate, reader.file.channels) for reader in readers]
        for piece in encode_together(codec.engine, clips, n_q):
            reader = readers[piece.index]
            if isinstance(piece.codes, Exception):
                yield reader.index, piece.codes
                continue
            reader.packets.append(piece.codes)
            if piece.last:
                yield reader.index, reader.encoded(codec)
        for reader in readers:
            if reader.ended and not reader.packets:  # no piece came, and no error
                yield reader.index, _too_short(codec, sources[reader.index])


def _too_short(codec: Codec, source: Path) -> InputError:
    return InputError(f"{source}: is shorter than one sample at {codec.sample_rate} Hz")


class _Reader:
    """The blocks of an open file, counted while they are read, and what came of them."""

    def __init__(self, index: int, file: AudioBlocks, advance: Advance) -> None:
        self.index = index
        self.file = file
        self.ended = False
        self.packets: list[Codes | Chunk] = []
        self._advance = advance
        self._count = 0

    def __iter__(self) -> Iterator[Samples]:
        for block in self.file:
            yield block
            self._count += block.shape[1]
            self._advance(block.shape[1] / self.file.rate)
        self.ended = True

    def encoded(self, codec: Codec) -> EncodedFile:
        length = resampled_length(self._count, self.file.rate, codec.sample_rate)
        return EncodedFile(self.packets, length, self._count / self.file.rate)


def write_encoded(
    codec: Codec, encoded: EncodedFile, source: Path, target: Path, language_model: LanguageEngine | LevelEngine | None = None
) -> int:
    """Write a file of codes, whole or not at all, and return its size in bytes.

    A target named .ecdc becomes a file of the package encodec, which `language_model` makes smaller. Raises `CodesError` if it cannot be
    written.
    """
    codes, scales = clip_of(encoded.packets)
    if target.suffix.lower() == ".ecdc":
        packets = codes if codec.config.codes_alone else encoded.packets
        return write_file(target, to_ecdc(codec, packets, encoded.samples, language_model), [source])
    file = CodesFile(codes, codec.name, codec.fingerprint, encoded.samples, scales)
    return write_codes(target, file, codec.config.bits_per_code, [source])
