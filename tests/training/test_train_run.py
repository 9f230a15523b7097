"""`streamcodec train` on a few seconds of sound: every kind of stage, a run that is stopped and gone on with, and what it exports."""

from __future__ import annotations

import csv
import json
import os
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from training_material import RATE, TINY, voice, write_voices

from streamcodec.errors import InputError, ModelNotFoundError, UnsupportedModelError
from streamcodec.model.checkpoint import load_file, save, weights_fingerprint
from streamcodec.model.encodec import EncodecModel
from streamcodec.training.cli import main
from streamcodec.training.data.corpus import Corpus
from streamcodec.training.losses.discriminator import load_discriminator
from streamcodec.training.plots import curves
from streamcodec.training.recipe import load_recipe
from streamcodec.training.run import TrainingRun, export_run
from streamcodec.training.stages.adversarial import AdversarialLearner
from streamcodec.training.stages.kinds import DISCRIMINATOR, KINDS
from streamcodec.training.stages.loop import Intervals

CROPS = "crops = { batch = 2, crop_frames = 24, stream_seconds = 0.64 }"
MODEL = """
[model]
num_filters = 4
hidden_size = 8
codebook_dim = 8
codebook_size = 16
num_lstm_layers = 1
search_beam = 1
target_bandwidths = [0.6, 1.2]
"""
BEGUN = f"""
[[stages]]
kind = "autoencoder"
steps = 4
warmup_steps = 1
rate = 0.01
n_q = [2, 4]
losses = {{ mel = 1.6, relative = 0.3, noise = 3.0, snr = 0.04, band_snr = 0.1 }}
band_snr_from = 4
fit_batches = 40
kmeans_batches = 10
{CROPS}
"""
ADVERSARIAL = f"""
[[stages]]
kind = "adversarial"
steps = 6
streams = 4
n_q = [2, 4]
discriminator_alone = 2
{CROPS}
"""
ALL_KINDS = f"""
{MODEL}
{BEGUN}
[[stages]]
kind = "codebooks"
batches = 2
crop_frames = 24
[[stages]]
kind = "latent-weighting"
batches = 1
crop_frames = 48
[[stages]]
kind = "averaging"
stage = 2
share = 0.25
{ADVERSARIAL}
[[stages]]
kind = "bf16-rounding"
batches = 1
crop_frames = 24
"""
PACE = Intervals(log_steps=2, evaluate_steps=3, perceptual_steps=10**9, clips=1, clip_seconds=0.8)


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audio")
    voices, music, strangers = (str(write_voices(root / name)) for name in ("voices", "music", "strangers"))
    folders = ["--audio", voices, "--music", music, "--held-out", strangers]
    assert main(["data", str(root / "corpus"), "--no-packages", *folders]) == 0
    return root / "corpus"


def written(folder: Path, text: str) -> Path:
    path = folder / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def runs(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the run of a recipe with every kind of stage."""
    folder = tmp_path_factory.mktemp("runs")
    assert main(["run", str(written(folder, ALL_KINDS)), "--corpus", str(corpus), "--runs", str(folder)]) == 0
    return folder


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def stages(run: Path) -> list[EncodecModel]:
    return [load_file(path) for path in sorted(run.glob("*/model.safetensors"))]


def changed(before: torch.nn.Module, after: torch.nn.Module) -> set[str]:
    return {name for name, tensor in before.state_dict().items() if not torch.equal(tensor, after.state_dict()[name])}


def test_every_kind_of_stage_is_run_in_order_and_noted(runs: Path) -> None:
    noted = [json.loads(line) for line in (runs / "tiny" / "log.jsonl").read_text().splitlines()]
    assert {entry["kind"] for entry in noted} == set(KINDS) and [entry["stage"] for entry in noted] == [1, 2, 3, 4, 5, 6]
    models = stages(runs / "tiny")
    assert [entry["fingerprint"] for entry in noted] == [weights_fingerprint(model) for model in models]
    assert [entry["hours"] is None for entry in noted] == [False, True, True, True, False, True]
    written_out = json.loads((runs / "tiny" / "recipe.json").read_text())
    assert written_out["base"] is None and written_out["stages"][4]["losses"] == {"mel": 1.0, "features": 3.0, "adversarial": 3.0}


def test_an_adversarial_stage_changes_only_the_decoder(runs: Path) -> None:
    before, after = stages(runs / "tiny")[3:5]
    assert changed(before, after) == {name for name in before.state_dict() if name.startswith("decoder.")}


def test_a_run_that_is_done_is_left_alone(runs: Path, corpus: Path) -> None:
    before = sorted((path, path.stat().st_mtime_ns) for path in (runs / "tiny").rglob("model.safetensors"))
    assert main(["run", str(runs / "tiny.toml"), "--corpus", str(corpus), "--runs", str(runs)]) == 0
    assert sorted((path, path.stat().st_mtime_ns) for path in (runs / "tiny").rglob("model.safetensors")) == before


def test_losses_are_logged(runs: Path, tmp_path: Path) -> None:
    last = rows(runs / "tiny" / "05-adversarial" / "steps.csv")[-1]
    assert last["step"] == "6" and all(float(last[name]) == float(last[name]) for name in ("critic", "features", "adversarial", "mel"))
    assert main(["plot", str(runs / "tiny" / "05-adversarial"), str(tmp_path / "stage.png")]) == 0
    assert (tmp_path / "stage.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(InputError, match="no logs"):
        main(["plot", str(tmp_path), str(tmp_path / "none.png")])


@pytest.mark.parametrize("layout", ["hf", "streamcodec"])
def test_the_exported_model_streams_exactly_what_it_codes_whole(runs: Path, tmp_path: Path, layout: str) -> None:
    target = tmp_path / ("model" if layout == "hf" else "model.safetensors")
    assert main(["export", str(runs / "tiny"), str(target), "--layout", layout]) == 0
    model = load_file(target)
    assert model.config.hidden_size == TINY.hidden_size and model.config.pad_mode == "constant"
    samples = torch.from_numpy(voice(1.03, RATE, 7))[None, None]
    with torch.inference_mode():
        codes, _ = model.encode(samples, None, 4, True)
        whole, _ = model.decode(codes, None, True)
        state, played, packets = None, None, []
        for at in range(0, samples.shape[-1], 1920):
            final = at + 1920 >= samples.shape[-1]
            packet, state = model.encode(samples[..., at : at + 1920], state, 4, final)
            heard, played = model.decode(packet, played, final)
            packets.append((packet, heard))
    assert torch.equal(torch.cat([p for p, _ in packets], dim=-1), codes)
    torch.testing.assert_close(torch.cat([h for _, h in packets], dim=-1), whole, rtol=0.0, atol=1e-5)


def based(folder: Path, base: Path) -> Path:
    return written(folder, f'base = "{base}@{weights_fingerprint(load_file(base))}"\n{ADVERSARIAL}')


def test_a_run_told_to_stop_goes_on_as_if_it_had_not(runs: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The models of a run that SIGTERM stopped, and that the same command went on with, and of one that nobody stopped are one."""
    recipe = based(tmp_path, runs / "tiny" / "04-averaging" / "model.safetensors")
    command = ["run", str(recipe), "--corpus", str(corpus), "--runs", str(tmp_path), "--name"]
    learn = AdversarialLearner.step

    def until_told(learner: AdversarialLearner, step: int, progress: float) -> dict[str, float]:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(learner, step, progress)

    with monkeypatch.context() as patch:
        patch.setattr(AdversarialLearner, "step", until_told)
        assert main([*command, "stopped"]) == 3
    assert [path.name for path in (tmp_path / "stopped" / "01-adversarial").glob("*.pt")] == ["checkpoint-00000004.pt"]
    assert main([*command, "stopped"]) == 0 and main([*command, "whole"]) == 0
    (stopped,), (whole,) = stages(tmp_path / "stopped"), stages(tmp_path / "whole")
    for a, b in zip(stopped.state_dict().values(), whole.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-3, atol=1e-5)


def test_codes_of_a_base_stay_bit_for_bit_through_an_export(runs: Path, corpus: Path, tmp_path: Path) -> None:
    base = runs / "tiny" / "04-averaging" / "model.safetensors"  # float32, which float16 would bend
    assert main(["run", str(based(tmp_path, base)), "--corpus", str(corpus), "--runs", str(tmp_path)]) == 0
    critic = tmp_path / "critic.safetensors"
    target = str(tmp_path / "after.safetensors")
    assert main(["export", str(tmp_path / "tiny"), target, "--layout", "streamcodec", "--discriminator", str(critic)]) == 0
    moved = changed(load_file(base), load_file(Path(target)))
    assert moved == {name for name in load_file(base).state_dict() if name.startswith("decoder.")}
    assert changed(load_discriminator(critic), load_discriminator(tmp_path / "tiny" / "01-adversarial" / DISCRIMINATOR)) == set()


def test_a_discriminator_that_was_exported_can_be_trained_further(
    runs: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    critic, later = tmp_path / "critic.safetensors", tmp_path / "later.safetensors"
    export_run(runs / "tiny", tmp_path / "model.safetensors", "streamcodec", critic)  # its last stage has none
    monkeypatch.setattr("streamcodec.training.stages.loop._told_to_stop", _AlreadyTold)
    recipe = str(based(tmp_path, runs / "tiny" / "04-averaging" / "model.safetensors"))
    command = ["run", recipe, "--corpus", str(corpus), "--runs", str(tmp_path), "--discriminator", str(critic)]
    assert main(command) == 3
    export_run(tmp_path / "tiny", tmp_path / "model.safetensors", "streamcodec", later)
    assert changed(load_discriminator(critic), load_discriminator(later)) == set()


def test_a_run_is_not_exported_onto_itself(runs: Path, tmp_path: Path) -> None:
    run = runs / "tiny"
    files = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    stage = sorted(path.parent for path in files if path.name == "model.safetensors")[-1]
    with pytest.raises(InputError, match="is the same file as the input"):
        export_run(run, stage / "model.safetensors", "streamcodec")
    with pytest.raises(InputError, match="is the same file as the output"):
        export_run(run, tmp_path / "x.safetensors", "streamcodec", tmp_path / "x.safetensors")
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == files


def test_a_run_without_a_discriminator_has_none_to_export(runs: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "tiny" / "01-autoencoder", tmp_path / "01-autoencoder")
    shutil.copy(runs / "tiny" / "recipe.json", tmp_path)
    with pytest.raises(ModelNotFoundError, match="no stage with a discriminator has begun"):
        export_run(tmp_path, tmp_path / "none.safetensors", "streamcodec", tmp_path / "critic.safetensors")


def test_weights_can_be_exported_while_a_stage_is_under_way(
    runs: Path, corpus: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base = runs / "tiny" / "04-averaging" / "model.safetensors"
    monkeypatch.setattr("streamcodec.training.stages.loop._told_to_stop", _AlreadyTold)
    assert main(["run", str(based(tmp_path, base)), "--corpus", str(corpus), "--runs", str(tmp_path)]) == 3
    export_run(tmp_path / "tiny", tmp_path / "now.safetensors", "streamcodec")
    assert changed(load_file(base), load_file(tmp_path / "now.safetensors")) == set()  # it has not learnt anything yet
    with pytest.raises(ModelNotFoundError, match="no stage of a run"):
        export_run(tmp_path / "nowhere", tmp_path / "none.safetensors")


class _AlreadyTold:
    def __enter__(self) -> list[int]:
        return [signal.SIGTERM]

    def __exit__(self, *_: object) -> None: ...


def test_held_out_voices_are_measured_at_every_bandwidth(runs: Path, corpus: Path, tmp_path: Path) -> None:
    recipe = load_recipe(based(tmp_path, runs / "tiny" / "04-averaging" / "model.safetensors"))
    assert TrainingRun(tmp_path / "run", recipe, Corpus(corpus), PACE).train()
    quality = rows(tmp_path / "run" / "01-adversarial" / "quality.csv")
    assert [(int(r["step"]), float(r["kbps"])) for r in quality] == [(step, kbps) for step in (3, 6) for kbps in (0.6, 1.2)]
    assert all(1.0 <= float(r["perplexity_least"]) <= 16.0 for r in quality)
    assert curves(tmp_path / "run" / "01-adversarial" / "quality.csv", "kbps")["sisdr"]["1.2"][0] == [3.0, 6.0]
    kept = sorted(path.name for path in (tmp_path / "run" / "01-adversarial").glob("checkpoint-*"))
    assert len(kept) <= 2 and kept[-1] == "checkpoint-00000006.pt"


def test_a_base_with_another_fingerprint_is_refused(runs: Path, corpus: Path, tmp_path: Path) -> None:
    recipe = load_recipe(based(tmp_path, runs / "tiny" / "04-averaging" / "model.safetensors"))
    other = str(runs / "tiny" / "01-autoencoder" / "model.safetensors")
    with pytest.raises(InputError, match=r"has fingerprint .*, the recipe expects .*: give a file of that model as base"):
        TrainingRun(tmp_path / "run", recipe, Corpus(corpus), PACE, base=other)


def test_a_model_that_does_not_code_frame_by_frame_is_refused(corpus: Path, tmp_path: Path) -> None:
    recipe = load_recipe(written(tmp_path, ALL_KINDS.replace("num_filters = 4\n", "num_filters = 4\nuse_causal_conv = false\n", 1)))
    with pytest.raises(UnsupportedModelError, match="only models that code frame by frame can be trained: this one is not causal"):
        TrainingRun(tmp_path / "run", recipe, Corpus(corpus), PACE)
    assert not (tmp_path / "run").exists()


def test_a_folder_holds_one_recipes_run(runs: Path, corpus: Path, tmp_path: Path) -> None:
    other = written(tmp_path, ALL_KINDS.replace("share = 0.25", "share = 0.5"))
    with pytest.raises(InputError, match="this run is of another recipe or base"):
        main(["run", str(other), "--corpus", str(corpus), "--runs", str(runs)])


def test_a_run_from_before_the_configuration_had_a_field_goes_on(runs: Path, corpus: Path, tmp_path: Path) -> None:
    shutil.copytree(runs / "tiny", tmp_path / "tiny")
    noted = json.loads((tmp_path / "tiny" / "recipe.json").read_text(encoding="utf-8"))
    assert noted["config"].pop("chunk_length_s", "gone") is None
    (tmp_path / "tiny" / "recipe.json").write_text(json.dumps(noted), encoding="utf-8")
    assert main(["run", str(written(tmp_path, ALL_KINDS)), "--corpus", str(corpus), "--runs", str(tmp_path)]) == 0
    assert "chunk_length_s" in json.loads((tmp_path / "tiny" / "recipe.json").read_text(encoding="utf-8"))["config"]


def test_stages_that_have_not_begun_may_change(runs: Path, corpus: Path, tmp_path: Path) -> None:
    for name in ("01-autoencoder", "02-codebooks"):
        shutil.copytree(runs / "tiny" / name, tmp_path / "tiny" / name)
    shutil.copy(runs / "tiny" / "recipe.json", tmp_path / "tiny")
    rest = '[[stages]]\nkind = "averaging"\nstage = 1\nshare = 1.0'
    recipe = written(tmp_path, ALL_KINDS[: ALL_KINDS.index('[[stages]]\nkind = "latent-weighting"')] + rest)
    assert main(["run", str(recipe), "--corpus", str(corpus), "--runs", str(tmp_path)]) == 0
    first, _, averaged = stages(tmp_path / "tiny")
    assert changed(first, averaged) == set()


@pytest.mark.parametrize("stage", ["kind = 'adversarial'\nsteps = 1", "kind = 'bf16-rounding'"])
def test_a_stage_that_needs_a_model_says_so(corpus: Path, tmp_path: Path, stage: str) -> None:
    with pytest.raises(InputError, match="this stage needs a model: expected a base or a stage of kind autoencoder before it"):
        main(["run", str(written(tmp_path, f"{MODEL}[[stages]]\n{stage}")), "--corpus", str(corpus), "--runs", str(tmp_path)])


def test_a_stage_is_averaged_with_one_before_it(corpus: Path, tmp_path: Path) -> None:
    save(EncodecModel(TINY), tmp_path / "base.safetensors")
    recipe = written(tmp_path, f'base = "{tmp_path / "base.safetensors"}"\n[[stages]]\nkind = "averaging"\nstage = 1')
    with pytest.raises(InputError, match="stage is 1, expected 0 to 0"):
        main(["run", str(recipe), "--corpus", str(corpus), "--runs", str(tmp_path)])


def test_a_corpus_of_another_rate_is_refused(corpus: Path, tmp_path: Path) -> None:
    other = replace(TINY, sampling_rate=48_000, target_bandwidths=(1.2,))
    save(EncodecModel(other), tmp_path / "base.safetensors")
    recipe = written(tmp_path, f'base = "{tmp_path / "base.safetensors"}"\n[[stages]]\nkind = "codebooks"')
    with pytest.raises(InputError, match="24000 Hz and the model at 48000 Hz"):
        main(["run", str(recipe), "--corpus", str(corpus), "--runs", str(tmp_path)])


def test_two_folders_of_one_name_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="two folders have the same last name"):
        main(["data", str(tmp_path / "corpus"), "--no-packages", "--audio", str(tmp_path / "a"), "--audio", str(tmp_path / "b" / "a")])
