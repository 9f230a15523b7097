"""A folder of audio becomes a folder of codes: those of each file alone, whatever happens on the way, and a dataset reads them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile as sf
import torch
from made_up_models import save_made_up_model
from parity import assert_same_codes
from torch.utils.data import DataLoader

import streamcodec
from streamcodec.audio import read_audio
from streamcodec.bitstream.codes_file import read_codes
from streamcodec.codec.chunks import as_chunks, clip_of
from streamcodec.errors import CodesError, InputError
from streamcodec.tokenizer import Manifest, TokenDataset, TokenizerJob, folder, header_of, is_done, read_manifest, tokenize

FILES = {"a.wav": 24_000, "b.wav": 9_000, "deep/c.wav": 30_500, "deep/d.flac": 24_000, "e.wav": 400}


@pytest.fixture(scope="module")
def two_workers(model: str) -> streamcodec.Codec:
    return streamcodec.load(model, engine="torch", threads=2, workers=2)


@pytest.fixture
def talks(tmp_path: Path) -> Path:
    (tmp_path / "talks" / "deep").mkdir(parents=True)
    for seed, (name, length) in enumerate(FILES.items()):
        sf.write(tmp_path / "talks" / name, np.random.default_rng(seed).normal(0, 0.1, length), 24_000)
    return tmp_path / "talks"


def jobs_of(talks: Path) -> list[TokenizerJob]:
    out = talks.parent / "codes"
    return [TokenizerJob.of(talks / name, (out / name).with_suffix(".codes"), talks, out) for name in FILES]


def errors_of(codec: streamcodec.Codec, talks: Path, **options: int) -> dict[str, str | None]:
    jobs = jobs_of(talks)
    with Manifest(talks.parent / "codes", header_of(codec)) as manifest:
        left = [job for job in jobs if not is_done(job, manifest)]
        return {outcome.job.name: outcome.error and str(outcome.error) for outcome in tokenize(codec, left, manifest, **options)}


@pytest.mark.parametrize("batch", [1, 2, 16])
def test_each_file_has_the_codes_that_it_has_alone(two_workers: streamcodec.Codec, talks: Path, batch: int) -> None:
    assert errors_of(two_workers, talks, batch=batch) == dict.fromkeys(FILES)
    header, entries = read_manifest(talks.parent / "codes")
    assert (header.fingerprint, header.n_q, header.hop_length) == (two_workers.fingerprint, 8, 320)
    assert list(entries) == sorted(FILES)
    for name, entry in entries.items():
        file = read_codes(talks.parent / "codes" / entry.codes)
        audio = read_audio(talks / name)[0][0]
        assert entry.frames == file.codes.shape[1] and entry.samples == file.samples == FILES[name]
        assert_same_codes(two_workers, file.codes, two_workers.encode(audio, bandwidth=6), audio)


def test_what_is_done_is_left_alone_until_its_source_or_its_codes_change(two_workers: streamcodec.Codec, talks: Path) -> None:
    errors_of(two_workers, talks)
    assert errors_of(two_workers, talks) == {}
    os.utime(talks / "a.wav", ns=(1, 1))
    (talks.parent / "codes" / "b.codes").unlink()
    assert errors_of(two_workers, talks) == {"a.wav": None, "b.wav": None}


def test_a_file_that_fails_is_named_stops_no_other_and_is_tried_again(two_workers: streamcodec.Codec, talks: Path) -> None:
    sound = (talks / "a.wav").read_bytes()
    (talks / "a.wav").write_text("no audio")
    (talks / "deep" / "c.wav").write_bytes((talks / "deep" / "c.wav").read_bytes()[:9_000])
    (talks / "b.wav").unlink()
    (talks.parent / "codes" / "e.codes").mkdir(parents=True)
    found = errors_of(two_workers, talks)
    failed = {name: error for name, error in found.items() if error}
    assert found.keys() == FILES.keys() and failed.keys() == {"a.wav", "b.wav", "deep/c.wav", "e.wav"}
    assert "a.wav is not audio that can be read" in str(failed["a.wav"]) and "cut off or is damaged" in str(failed["deep/c.wav"])
    entries = read_manifest(talks.parent / "codes")[1]
    assert all(f"{Path(name).stem}." in str(entries[name].error) for name in failed)
    assert len(TokenDataset(talks.parent / "codes")) == 1
    (talks / "a.wav").write_bytes(sound)
    assert errors_of(two_workers, talks)["a.wav"] is None


def test_a_run_that_is_given_up_ends_and_the_next_one_does_the_rest(
    two_workers: streamcodec.Codec, talks: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with Manifest(talks.parent / "codes", header_of(two_workers)) as manifest:
        running: Iterator[object] = tokenize(two_workers, jobs_of(talks), manifest, batch=1)
        next(running)
        running.close()  # type: ignore[attr-defined]
    done = read_manifest(talks.parent / "codes")[1]
    assert len(done) >= 1
    again = errors_of(two_workers, talks)
    assert {*done, *again} == FILES.keys() and not {*done} & {*again}
    monkeypatch.setattr(folder, "write_encoded", lambda *_: pytest.fail("a mistake of ours"))
    (talks.parent / "codes" / "manifest.jsonl").unlink()
    with pytest.raises(pytest.fail.Exception, match="a mistake of ours"):
        errors_of(two_workers, talks)


def test_all_seconds_of_audio_are_told(two_workers: streamcodec.Codec, talks: Path) -> None:
    told: list[float] = []
    with Manifest(talks.parent / "codes", header_of(two_workers)) as manifest:
        list(tokenize(two_workers, jobs_of(talks), manifest, advance=told.append))
    assert sum(told) == pytest.approx(sum(FILES.values()) / 24_000)


def test_few_files_are_shared_out_among_all_workers(two_workers: streamcodec.Codec, talks: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    batches: list[int] = []
    encode_files = folder.encode_files

    def counted(codec: streamcodec.Codec, sources: Sequence[Path], *more: Any) -> Any:
        batches.append(len(sources))
        return encode_files(codec, sources, *more)

    monkeypatch.setattr(folder, "encode_files", counted)
    errors_of(two_workers, talks, batch=16)
    assert sorted(batches) == [2, 3]


@pytest.mark.parametrize("kind", [{"use_causal_conv": False}, {"normalize": True, "chunk_length_s": 0.5, "overlap": 0.1}])
def test_a_model_that_codes_whole_clips_or_chunks_serves(talks: Path, tmp_path: Path, kind: dict[str, Any]) -> None:
    codec = streamcodec.load(save_made_up_model(tmp_path / "model", num_filters=4, hidden_size=16, **kind), engine="torch")
    assert errors_of(codec, talks) == dict.fromkeys(FILES)
    codes, scales = clip_of(as_chunks(codec.encode(read_audio(talks / "a.wav")[0], bandwidth=6)))
    file = read_codes(talks.parent / "codes" / "a.codes")
    np.testing.assert_array_equal(file.codes, codes)
    if scales is None:
        assert file.scales is None
    else:
        np.testing.assert_allclose(file.scales, scales, rtol=1e-6)
    assert torch.equal(TokenDataset(talks.parent / "codes")[0], torch.from_numpy(codes).long())


# As a dataset ------------------------------------------------------------------------------------------------------------------------


@pytest.fixture
def codes(two_workers: streamcodec.Codec, talks: Path) -> Path:
    errors_of(two_workers, talks)
    return talks.parent / "codes"


def test_a_dataset_holds_each_clip_s_codes(codes: Path) -> None:
    dataset = TokenDataset(codes)
    assert [entry.source for entry in dataset.entries] == sorted(FILES) and len(dataset) == 5
    for item, entry in zip((dataset[i] for i in range(5)), dataset.entries, strict=True):
        assert item.dtype == torch.int64
        np.testing.assert_array_equal(item.numpy(), read_codes(codes / entry.codes).codes)
    assert torch.equal(dataset[-1], dataset[4])
    assert torch.equal(TokenDataset(codes, n_q=2)[3], dataset[3][:2])
    with pytest.raises(IndexError):
        dataset[5]


def test_stretches_of_one_length_can_be_stacked(codes: Path) -> None:
    dataset, whole = TokenDataset(codes, frames=25), TokenDataset(codes)
    # 75 frames, 29, 96, 75 and 2.
    assert len(dataset) == 3 + 1 + 3 + 3 + 0
    assert torch.equal(torch.cat([dataset[i] for i in (4, 5, 6)], dim=1), whole[2][:, :75])
    [batch] = DataLoader(dataset, batch_size=10)
    assert batch.shape == (10, 8, 25)
    assert torch.equal(batch[3], whole[1][:, :25])


def test_what_does_not_fit_is_refused(codes: Path) -> None:
    for arguments, told in (({"n_q": 9}, "n_q is 9, expected 1 to 8"), ({"frames": 0}, "frames is 0")):
        with pytest.raises(InputError, match=told):
            TokenDataset(codes, **arguments)
    (codes / "a.codes").write_bytes((codes / "b.codes").read_bytes())
    with pytest.raises(CodesError, match=r"a\.codes: holds \[8, 29\] codes of .*, the manifest says \[8, 75\]"):
        TokenDataset(codes)[0]
