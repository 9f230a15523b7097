"""The recipe, run on a few seconds of sound: it learns, survives being stopped, and what it exports streams exactly."""

from __future__ import annotations

import csv
import os
import signal
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from training_material import RATE, SHORT, TINY, voice, write_voices

from streamcodec.config import CodecConfig
from streamcodec.errors import InputError, ModelNotFoundError
from streamcodec.model.checkpoint import load_file, save
from streamcodec.model.encodec import EncodecModel
from streamcodec.training import main
from streamcodec.training.corpus import Corpus, Folder, build
from streamcodec.training.export import averaged, export
from streamcodec.training.loop import Pace, Run
from streamcodec.training.losses import SpectralLoss
from streamcodec.training.perception import Similarity
from streamcodec.training.plots import curves, plot
from streamcodec.training.recipe import Phase
from streamcodec.training.refit import refit
from streamcodec.training.rounding import rounded
from streamcodec.training.rundir import latest_checkpoint, load_checkpoint
from streamcodec.training.weighting import weighed

QUIET = Pace(log_steps=20, evaluate_steps=40, perceptual_steps=10**9, clips=2, clip_seconds=0.8)


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("audio")
    folders = [
        Folder("voices", write_voices(root / "voices")),
        Folder("music", write_voices(root / "music", speakers=1), kind="music"),
        Folder("strangers", write_voices(root / "strangers", speakers=1), held_out=True),
    ]
    build(folders, root / "corpus")
    return root / "corpus"


@pytest.fixture(scope="module")
def corpus(corpus_folder: Path) -> Corpus:
    return Corpus(corpus_folder)


@pytest.fixture(scope="module")
def finished(corpus: Corpus, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run that spent its whole budget."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    assert Run(folder, corpus, TINY, SHORT, QUIET).train()
    return folder


def said(model: EncodecModel, x: torch.Tensor) -> torch.Tensor:
    """What `model` makes of `x` [B, 1, T] at its highest bandwidth: [B, T]."""
    with torch.no_grad():
        codes, _ = model.encode(x, None, model.config.num_quantizers, True)
        return model.decode(codes, None, True)[0][:, 0]


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def leaves(state: object) -> dict[str, object]:
    """All tensors, numbers and words in nested dictionaries and lists, each by its way."""
    if not isinstance(state, dict | list | tuple):
        return {"": state}
    items = state.items() if isinstance(state, dict) else enumerate(state)
    return {f"{key}/{way}": leaf for key, value in items for way, leaf in leaves(value).items()}


def test_loss_falls_and_all_phases_are_gone_through(finished: Path) -> None:
    steps = rows(finished / "steps.csv")
    assert [int(r["phase"]) for r in steps] == [1, 1, 1, 1, 1, 2, 2, 2]
    for term in ("mel", "lost"):
        assert max(float(r[term]) for r in steps[-3:]) < float(steps[0][term])
    assert steps[0]["critic"] == "" and float(steps[-1]["critic"]) > 0.0


def test_held_out_voices_are_measured_at_every_bandwidth(finished: Path) -> None:
    quality = rows(finished / "quality.csv")
    assert [(int(r["step"]), float(r["kbps"])) for r in quality] == [(step, kbps) for step in (40, 80, 120, 160) for kbps in (0.6, 1.2)]
    assert all(1.0 <= float(r["perplexity_least"]) <= 16.0 for r in quality)
    before, after = quality[:2], quality[-2:]
    assert all(float(b["mel"]) < 0.97 * float(a["mel"]) for a, b in zip(before, after, strict=True))


def test_only_the_last_two_checkpoints_are_kept(finished: Path) -> None:
    kept = sorted(p.name for p in finished.glob("checkpoint-*"))
    assert len(kept) <= 2 and kept[-1] == "checkpoint-00000160.pt"


def test_a_run_told_to_stop_goes_on_as_if_it_had_not(corpus: Corpus, tmp_path: Path) -> None:
    stopped = Run(tmp_path, corpus, TINY, replace(SHORT, steps=20), QUIET)
    batches, learn = stopped.batches, stopped.learner.step

    def until_told(x: torch.Tensor, step: int, progress: float, goes_on: torch.Tensor) -> dict[str, float]:
        if step == 11:
            os.kill(os.getpid(), signal.SIGTERM)
        return learn(x, step, progress, goes_on)

    stopped.learner.step = until_told  # type: ignore[method-assign, assignment]
    assert not stopped.train()
    assert stopped.step == 12 and stopped.learner.phase is Phase.QUANTIZED
    resumed = Run(tmp_path, corpus, CodecConfig(), replace(SHORT, steps=20), QUIET)  # the checkpoint's config holds
    assert resumed.step == 12 and resumed.learner.phase is Phase.QUANTIZED
    then, now = leaves(stopped.learner.state()), leaves(resumed.learner.state())
    assert then.keys() == now.keys()
    assert all(torch.equal(a, now[way]) if isinstance(a, torch.Tensor) else a == now[way] for way, a in then.items())
    assert torch.equal(resumed.batches(12), batches(12))
    assert bool(batches.goes_on(12).any())
    expected, got = (run.learner.step(batches(12), 12, 0.6, batches.goes_on(12)) for run in (stopped, resumed))
    assert got == pytest.approx(expected, rel=0.01)
    assert resumed.train() and resumed.step == 20


def test_a_pause_spends_nothing_of_the_budget(corpus: Corpus, tmp_path: Path) -> None:
    seconds = iter(np.arange(0.0, 3600.0, 1.0))
    run = Run(
        tmp_path, corpus, TINY, replace(SHORT, steps=None, hours=30 / 3600), QUIET, computed=lambda: float(next(seconds)), wall=lambda: 1e9
    )
    assert run.train()
    assert 0 < run.step < 30
    assert load_checkpoint(tmp_path / f"checkpoint-{run.step:08d}.pt")["seconds"] <= 45.0


def test_a_bigger_budget_does_not_leave_the_phase(corpus: Corpus, finished: Path, tmp_path: Path) -> None:
    last = latest_checkpoint(finished)
    assert last is not None
    (tmp_path / last.name).write_bytes(last.read_bytes())
    run = Run(tmp_path, corpus, TINY, replace(SHORT, steps=1000), replace(QUIET, clips=0))
    assert run.recipe.phase(run.progress) is Phase.QUANTIZED
    run._enter_phase()
    assert run.learner.phase is Phase.ADVERSARIAL


@pytest.mark.parametrize("layout", ["hf", "streamcodec"])
def test_the_exported_model_streams_exactly_what_it_codes_whole(finished: Path, tmp_path: Path, layout: str) -> None:
    target = tmp_path / ("model" if layout == "hf" else "model.safetensors")
    export(finished, target, layout)  # type: ignore[arg-type]
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


def test_the_command_line_builds_trains_and_exports(tmp_path: Path) -> None:
    voices = write_voices(tmp_path / "mine", speakers=1)
    stranger = write_voices(tmp_path / "other", speakers=1, files=1)
    corpus, runs = str(tmp_path / "corpus"), tmp_path / "runs"
    assert main(["build", "--audio", str(voices), "--held-out", str(stranger), "--corpus", corpus]) == 0
    command = ["train", "small", "--corpus", corpus, "--runs", str(runs), "--filters", "2", "--lstm-layers", "0", "--batch", "1"]
    assert main([*command, "--steps", "1"]) == 0
    assert main([*command, "--steps", "2"]) == 0
    assert main(["export", str(runs / "small"), str(tmp_path / "small.safetensors"), "--layout", "streamcodec"]) == 0
    model = load_file(tmp_path / "small.safetensors")
    assert (model.config.num_filters, model.config.num_quantizers) == (2, 32)


def test_codebooks_are_fitted_to_a_corpus_and_the_rest_is_left(corpus_folder: Path, finished: Path, tmp_path: Path) -> None:
    save(averaged(finished), tmp_path / "before.safetensors")
    command = ["refit", str(tmp_path / "before.safetensors"), str(tmp_path / "after.safetensors"), "--layout", "streamcodec"]
    assert main([*command, "--corpus", str(corpus_folder), "--batches", "6", "--crop-frames", "24"]) == 0
    assert changed(tmp_path / "before.safetensors", tmp_path / "after.safetensors") == {"quantizer.embed"}


def test_an_encoder_is_rounded_to_bfloat16_and_still_says_the_same(corpus_folder: Path, finished: Path, tmp_path: Path) -> None:
    save(averaged(finished), tmp_path / "before.safetensors")
    command = ["round", str(tmp_path / "before.safetensors"), str(tmp_path / "after.safetensors"), "--layout", "streamcodec"]
    assert main([*command, "--corpus", str(corpus_folder), "--batches", "2", "--crop-frames", "24"]) == 0
    assert all(name.startswith("encoder.") for name in changed(tmp_path / "before.safetensors", tmp_path / "after.safetensors"))
    before, after = load_file(tmp_path / "before.safetensors"), load_file(tmp_path / "after.safetensors")
    matrices = [p for p in after.encoder.parameters() if p.ndim > 1]
    assert matrices and all(torch.equal(p, p.bfloat16().float()) for p in matrices)
    merely = load_file(tmp_path / "before.safetensors")
    with torch.no_grad():
        for p in merely.encoder.parameters():
            if p.ndim > 1:
                p.copy_(p.bfloat16())
        x = torch.from_numpy(voice(4.0, RATE, 9))[None, None]
        latents, corrected, shifted = (m.encoder(x, None, True)[0].mean(dim=2) for m in (before, rounded(before, [x]), merely))
    assert (corrected - latents).norm() < 0.05 * (shifted - latents).norm()
    with pytest.raises(InputError, match="0 batches of audio, expected at least 1"):
        main([*command, "--corpus", str(corpus_folder), "--batches", "0", "--crop-frames", "24"])


def test_latents_are_weighed_and_say_the_same(corpus_folder: Path, finished: Path, tmp_path: Path) -> None:
    save(averaged(finished), tmp_path / "before.safetensors")
    command = ["weigh", str(tmp_path / "before.safetensors"), str(tmp_path / "after.safetensors"), "--layout", "streamcodec"]
    options = ["--corpus", str(corpus_folder), "--crop-frames", "48"]
    assert main([*command, *options, "--batches", "2"]) == 0
    before, after = load_file(tmp_path / "before.safetensors"), load_file(tmp_path / "after.safetensors")
    deepest = len(before.encoder.layers) - 1
    turned = {f"encoder.layers.{deepest}.conv.weight", f"encoder.layers.{deepest}.conv.bias", "decoder.layers.0.conv.weight"}
    assert changed(tmp_path / "before.safetensors", tmp_path / "after.safetensors") == {*turned, "quantizer.embed"}
    x = torch.from_numpy(voice(2.0, RATE, 9))[None, None]
    with torch.no_grad():
        said = [m.decoder(m.encoder(x, None, True)[0], None, True)[0] for m in (before, after)]
        torch.testing.assert_close(said[1], said[0], rtol=0.0, atol=1e-4)
        powers = [m.encoder(x, None, True)[0].square().mean() for m in (before, after)]
    assert 0.5 < powers[1] / powers[0] < 2.0
    with pytest.raises(InputError, match=r"strength is 1\.5, expected 0 to 1"):
        main([*command, *options, "--strength", "1.5"])
    with pytest.raises(InputError, match="0 batches of audio, expected at least 1"):
        main([*command, *options, "--batches", "0"])


def test_weighed_latents_have_room_for_what_is_heard(finished: Path) -> None:
    model, deaf = averaged(finished), [1, 4, 6]
    x = torch.from_numpy(voice(4.0, RATE, 9))[None, None]
    with torch.no_grad():
        model.decoder.layers[0].conv.weight[:, deaf] = 0.0  # type: ignore[union-attr, operator, index]
        before, half, whole = (m.encoder(x, None, True)[0][0].std(dim=1) for m in (model, weighed(model, [x]), weighed(model, [x], 1.0)))
        heard = [i for i in range(model.config.codebook_dim) if i not in deaf]
        for after, most in ((half, 0.5), (whole, 0.1)):
            assert (after[deaf] / before[deaf]).max() < most * (after[heard] / before[heard]).max()


def test_weighed_latents_lose_less_in_codebooks(finished: Path) -> None:
    """Latents whose directions have wrong sizes are weighed anew; codebooks are fitted to either, and nothing else learns."""
    model = averaged(finished)
    x = torch.stack([torch.from_numpy(voice(4.0, RATE, seed)) for seed in range(4)])[:, None]
    sizes = torch.logspace(-0.6, 0.6, model.config.codebook_dim)
    with torch.no_grad():
        last, first = model.encoder.layers[-1].conv, model.decoder.layers[0].conv  # type: ignore[union-attr]
        last.weight.mul_(sizes[:, None, None])  # type: ignore[union-attr, operator]
        last.bias.mul_(sizes)  # type: ignore[union-attr, operator]
        first.weight.div_(sizes[:, None])  # type: ignore[union-attr, operator]
    lost = []
    for mine in (model, weighed(model, [x])):
        refit(mine, [x], iterations=20)
        with torch.no_grad():
            latents = mine.encoder(x, None, True)[0]
            coded = mine.quantizer.decode(mine.quantizer.encode(latents, mine.config.num_quantizers))
            said, whole = (mine.decoder(z, None, True)[0][:, 0] for z in (coded, latents))
            lost.append(float(SpectralLoss(RATE)(said, whole).mel))
    assert lost[1] < lost[0]


def test_two_models_are_blended(finished: Path, tmp_path: Path) -> None:
    save(averaged(finished), tmp_path / "one.safetensors")
    other = averaged(finished)
    with torch.no_grad():
        for tensor in other.state_dict().values():
            tensor.add_(1.0)
    save(other, tmp_path / "other.safetensors")
    names = [str(tmp_path / f"{name}.safetensors") for name in ("one", "other", "both")]
    assert main(["blend", *names, "--share", "0.25", "--layout", "streamcodec"]) == 0
    before, after = load_file(Path(names[0])).state_dict(), load_file(Path(names[2])).state_dict()
    assert before.keys() == after.keys()
    assert all(torch.allclose(after[name], tensor + 0.25, atol=1e-6) for name, tensor in before.items())
    with pytest.raises(InputError, match=r"share is 1\.5, expected 0 to 1"):
        main(["blend", *names, "--share", "1.5"])
    with pytest.raises(InputError, match="different configurations"):
        main(["blend", names[0], "speech-24k", names[2]])


def test_what_comes_out_too_quiet_is_brought_up(corpus: Corpus, finished: Path, tmp_path: Path) -> None:
    levels = {}
    for weight in (0.0, 1.0):
        base = averaged(finished)
        recipe = replace(SHORT, steps=60, adversarial_from=1.0, level=weight)
        run = Run(tmp_path / str(weight), corpus, TINY, recipe, QUIET, base=base)
        assert run.train()
        levels[weight] = abs(run.evaluate(perceptual=False)[0]["level"])
    assert levels[1.0] < levels[0.0]


def changed(before: Path, after: Path) -> set[str]:
    """The names of the tensors in which two models differ."""
    one, other = (load_file(path).state_dict() for path in (before, after))
    return {name for name, tensor in one.items() if not torch.equal(tensor, other[name])}


@pytest.mark.parametrize("dtype", [torch.float16, torch.float32])
def test_a_decoder_is_tuned_back_and_its_codes_stay(dtype: torch.dtype, corpus: Corpus, finished: Path, tmp_path: Path) -> None:
    base = averaged(finished)
    with torch.no_grad():
        base.decoder.layers[-1].conv.weight.mul_(0.3)  # type: ignore[union-attr, operator]
    save(base, tmp_path / "before.safetensors", dtype=dtype)
    base = load_file(tmp_path / "before.safetensors")
    recipe = replace(SHORT, decoder_only=True, steps=100, adversarial_from=0.9)
    run = Run(tmp_path / "tuned", corpus, base.config, recipe, QUIET, base=base)
    before = run.evaluate(perceptual=False)
    assert run.train() and run.learner.phase is Phase.ADVERSARIAL
    after = run.evaluate(perceptual=False)
    assert all(b["mel"] < 0.97 * a["mel"] for a, b in zip(before, after, strict=True))
    assert all(b["perplexity_least"] == a["perplexity_least"] for a, b in zip(before, after, strict=True))
    export(tmp_path / "tuned", tmp_path / "after.safetensors", "streamcodec")
    moved = changed(tmp_path / "before.safetensors", tmp_path / "after.safetensors")
    assert moved == {name for name in base.state_dict() if name.startswith("decoder.")}


def test_a_model_is_refined_as_a_whole_and_gone_on_with(corpus_folder: Path, finished: Path, tmp_path: Path) -> None:
    save(averaged(finished), tmp_path / "before.safetensors")
    command = ["refine", "more", str(tmp_path / "before.safetensors"), "--corpus", str(corpus_folder), "--runs", str(tmp_path)]
    command += ["--batch", "2", "--crop-frames", "24", "--rate", "0.001"]
    assert main([*command, "--steps", "3"]) == 0
    assert main([*command, "--steps", "30"]) == 0
    kept = latest_checkpoint(tmp_path / "more")
    assert kept is not None and load_checkpoint(kept)["step"] == 30
    export(tmp_path / "more", tmp_path / "after.safetensors", "streamcodec")
    moved = changed(tmp_path / "before.safetensors", tmp_path / "after.safetensors")
    assert {"quantizer.embed"} < moved and any(name.startswith("encoder.") for name in moved)
    with pytest.raises(InputError, match="this run began with another model"):
        main(["refine", "more", str(tmp_path / "after.safetensors"), *command[3:]])


def test_refining_takes_a_model_on_from_where_it_was(corpus: Corpus, finished: Path, tmp_path: Path) -> None:
    recipe = replace(SHORT, steps=100, adversarial_from=1.0, similarity_pull=1.0, encoder_rate=0.5)
    base = averaged(finished)
    run = Run(tmp_path, corpus, TINY, recipe, replace(QUIET, clips=0), base=base)
    assert torch.equal(run.learner.rvq.embed, base.quantizer.embed)
    used = run.learner.rvq.counts.sum(dim=1)
    assert used.numpy() == pytest.approx(np.full(4, recipe.batch * recipe.crop_frames), rel=0.01)
    assert run.train()
    x = torch.stack([torch.from_numpy(voice(4.0, RATE, seed)) for seed in range(4)])[:, None]
    before, after = (float(Similarity(RATE)(said(model, x), x[:, 0]).mean()) for model in (base, averaged(tmp_path)))
    assert after < before
    assert [group["lr"] for group in run.learner.optimizer.param_groups] == pytest.approx([0.5 * 0.02 * 3e-4, 0.02 * 3e-4], rel=0.3)


def test_a_device_that_is_not_there_is_refused(corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(InputError, match="device is cuda, expected cpu"):
        Run(tmp_path, corpus, TINY, SHORT, QUIET, device="cuda")


def test_a_tuning_goes_on_with_the_model_that_it_began_with(corpus_folder: Path, finished: Path, tmp_path: Path) -> None:
    base = averaged(finished)
    save(base, tmp_path / "before.safetensors")
    command = ["tune", "again", str(tmp_path / "before.safetensors"), "--corpus", str(corpus_folder), "--runs", str(tmp_path)]
    command += ["--batch", "2", "--crop-frames", "24"]
    assert main([*command, "--steps", "1"]) == 0
    assert main([*command, "--steps", "2"]) == 0
    kept = latest_checkpoint(tmp_path / "again")
    assert kept is not None and load_checkpoint(kept)["step"] == 2
    with torch.no_grad():
        base.quantizer.embed.add_(0.1)
    save(base, tmp_path / "before.safetensors")
    with pytest.raises(InputError, match="this run began with another model"):
        main([*command, "--steps", "3"])


def test_a_decoder_is_tuned_for_the_codes_of_a_model(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a model for it to belong to"):
        Run(tmp_path, corpus, TINY, replace(SHORT, decoder_only=True), QUIET)


@pytest.mark.parametrize(("batches", "frames"), [("0", 0), ("1", 576)])
def test_too_little_audio_to_fit_codebooks_to_says_how_much_is_needed(
    corpus_folder: Path, tmp_path: Path, batches: str, frames: int
) -> None:
    with pytest.raises(InputError, match=f"^{frames} frames of audio, expected at least 1024"):
        command = ["refit", "speech-24k", str(tmp_path / "none"), "--corpus", str(corpus_folder), "--crop-frames", "144"]
        main([*command, "--batches", batches])


def test_a_run_is_drawn(finished: Path, tmp_path: Path) -> None:
    assert main(["plot", str(finished), str(tmp_path / "run.png")]) == 0
    assert (tmp_path / "run.png").read_bytes().startswith(b"\x89PNG")
    assert curves(finished / "quality.csv", "kbps")["sisdr"]["1.2"][0] == [40.0, 80.0, 120.0, 160.0]
    with pytest.raises(InputError, match="no logs"):
        plot(tmp_path, tmp_path / "none.png")


def test_a_folder_without_checkpoint_says_so(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFoundError, match="no checkpoint"):
        averaged(tmp_path)


def test_a_corpus_of_another_rate_is_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="24000 Hz and the model at 48000 Hz"):
        Run(tmp_path, corpus, replace(TINY, sampling_rate=48_000, target_bandwidths=(1.2,)), SHORT, QUIET)
