"""What our engines make of clips and of batches, against one encoding and one decoding of each by the package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness.clip_tally import ClipTally
from benchmarks.harness.clips import ClipTruth, decode_clip, row_of
from benchmarks.harness.imports import without_torchaudio
from benchmarks.harness.music import music
from benchmarks.harness.sections import Figures
from benchmarks.peers.references import Reference
from streamcodec.codec import Codec
from streamcodec.codec.chunks import as_chunks
from streamcodec.compat.transformers import EncodecFeatureExtractor, EncodecModel
from streamcodec.config import CodecConfig
from streamcodec.errors import InputError
from streamcodec.model.near_ties import NearTies

__all__ = ["batch_rows", "clip_rows", "lengths_at"]

_PIECE_S = 4  # our codec goes through longer clips of causal models in pieces of four seconds


def lengths_at(config: CodecConfig, bandwidth: float) -> list[int]:
    """The lengths of the clips that are compared at a bandwidth: short and odd ones, three seconds, and those that end around seams.

    At lower bandwidths than the highest, the latter are those alone that end just behind a seam of the first second.
    """
    hop, rate = config.hop_length, config.sampling_rate
    everywhere = [1, 2, hop - 1, hop, hop + 1, 7 * hop - 1, 7 * hop + 1, 4_801, 12_347, 3 * rate]
    seams = [seam for seam in (config.chunk_stride, config.chunk_length) if seam is not None]
    if config.granularity == "frames":
        seams.append(_PIECE_S * rate)
    if bandwidth == max(config.target_bandwidths):
        return [*everywhere, *(seam + more for seam in seams for more in (-1, 0, 1))]
    return [*everywhere, *(seam + 1 for seam in seams if seam <= rate)]


def clip_rows(
    labels: Mapping[str, Any], reference: Reference, codecs: Mapping[str, Codec], rule: NearTies, lengths: Sequence[int] | None
) -> list[Figures]:
    """The rows of each bandwidth and engine: clips by themselves, of `lengths` or those of `lengths_at`."""
    config = rule.model.config
    truths: dict[int, ClipTruth] = {}
    rows = []
    for kbps in config.target_bandwidths:
        tallies = {engine: ClipTally({**labels, "what": "clips", "kbps": kbps, "engine": engine}) for engine in codecs}
        for length in lengths or lengths_at(config, kbps):
            name, clip = f"a clip of {length} samples", music(config.audio_channels, length, seed=length, rate=config.sampling_rate)
            truth = truths.setdefault(length, ClipTruth(rule, clip))
            encoded = reference.encode(clip[None], kbps)
            heard = reference.decode(encoded)[0]
            for engine, tally in tallies.items():
                with tally.clip(name, length):
                    tally.encoded(name, truth, as_chunks(codecs[engine].encode(clip, bandwidth=kbps)), row_of(encoded))
                    tally.decoded(name, decode_clip(codecs[engine], row_of(encoded)), heard)
        rows += [tally.row() for tally in tallies.values()]
    return rows


def batch_rows(
    labels: Mapping[str, Any], reference: Reference, engines: Sequence[Any], folder: Path, rule: NearTies, seconds: float
) -> list[Figures]:
    """The rows of a padded batch with its mask, by `transformers` and by the module of its names that is ours."""
    config = rule.model.config
    models = {engine: EncodecModel.from_pretrained(folder, engine=engine) for engine in engines}
    values, mask = _padded_batch(folder, config, seconds)
    truths = [ClipTruth(rule, clip.numpy()) for clip in values * mask[:, None]]
    rows = []
    for kbps in config.target_bandwidths:
        with torch.inference_mode():
            encoded = reference.model.encode(values, mask, kbps)
            given = encoded.audio_codes, encoded.audio_scales, mask, True, encoded.last_frame_pad_length
            heard = reference.model.decode(*given)
        for engine, model in models.items():
            tally = ClipTally({**labels, "what": "batch", "kbps": kbps, "engine": engine})
            ours = model.encode(values, mask, kbps), model.decode(*given)
            tally.batch(truths, mask.sum(1).tolist(), (ours[0], encoded), (ours[1], heard))
            rows.append(tally.row())
    return rows


def _padded_batch(folder: Path, config: CodecConfig, seconds: float) -> tuple[torch.Tensor, torch.Tensor]:
    """Values [B, channels, T] and the mask [B, T] of four clips, the longest of so many seconds; both extractors must give the same."""
    with without_torchaudio():
        from transformers import EncodecFeatureExtractor as Theirs

    longest = round(seconds * config.sampling_rate)
    lengths = longest, 1, config.hop_length + 1, longest // 3
    clips = [music(config.audio_channels, length, seed, rate=config.sampling_rate) for seed, length in enumerate(lengths)]
    ours = EncodecFeatureExtractor.from_pretrained(folder)
    theirs = Theirs(config.audio_channels, config.sampling_rate, chunk_length_s=config.chunk_length_s, overlap=config.overlap)
    raw = [clip[0] if config.audio_channels == 1 else clip for clip in clips]
    batch, expected = (each(raw, sampling_rate=config.sampling_rate, return_tensors="pt") for each in (ours, theirs))
    for name in ("input_values", "padding_mask"):
        if not torch.equal(batch[name], expected[name]):
            raise InputError(f"the feature extractors give different {name}: {list(batch[name].shape)}, {list(expected[name].shape)}")
    return batch["input_values"], batch["padding_mask"]
