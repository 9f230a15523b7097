"""Look inside EnCodec: its steps one by one, single codebooks, and streaming with and without a state.

python clients/experiments.py                                    the bundled clip, into the folder experiments
python clients/experiments.py --input talk.wav --out pictures    another recording

The cells (`# %%`) run one after the other, here and in editors that know them. Each one prints what it found and writes sounds and pictures
to the folder. The pictures need matplotlib: pip install 'streamcodec[plots]'.
"""

# %% The model, and a clip
from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure

import streamcodec
from streamcodec.audio import bundled_clip, read_audio, write_audio
from streamcodec.model.hub import load_model

parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
parser.add_argument("--model", default="speech-24k")
parser.add_argument("--input", type=Path)
parser.add_argument("--seconds", type=float, default=4.0)
parser.add_argument("--out", type=Path, default=Path("experiments"))
options, _ = parser.parse_known_args()  # an editor's arguments are not ours
options.out.mkdir(parents=True, exist_ok=True)

codec = streamcodec.load(options.model)
# A beam search of width 1 takes the nearest entry of each codebook, one codebook after the other, as the published code does.
model = load_model(options.model).with_search_beam(1)
config = codec.config
n_q = config.n_q_for(6.0)
print(f"{options.model}: {config.num_quantizers} codebooks of {config.codebook_size} entries, {config.target_bandwidths} kbps")

recording, rate = bundled_clip() if options.input is None else read_audio(options.input)
mono = np.atleast_2d(recording).mean(axis=0)[: round(options.seconds * rate)]
audio = streamcodec.audio.resample(mono, rate, codec.sample_rate)
print(f"the clip: {len(audio) / codec.sample_rate:.2f} s, {config.frames_for(len(audio))} frames of {codec.hop_length} samples")


def write(name: str, samples: np.ndarray) -> None:
    """Write a sound of the clip's length."""
    write_audio(options.out / f"{name}.wav", np.clip(samples[: len(audio)], -1, 1), codec.sample_rate)


def distance_db(samples: np.ndarray, expected: np.ndarray) -> float:
    """How far the error of samples lies below what was expected, in dB."""
    error = samples[: len(expected)] - expected[: len(samples)]
    return float(10 * np.log10(np.sum(expected**2) / max(float(np.sum(error**2)), 1e-20)))


write("original", audio)

# %% Encode step by step: each codebook takes the nearest entry to what the codebooks before it left over
with torch.inference_mode():
    latents, _ = model.encoder(torch.from_numpy(audio)[None, None], None, True)  # [1, dim, frames]
residual = latents[0].T  # [frames, dim]
energy = [float(residual.square().sum())]
steps = []
for codebook in model.quantizer.embed[:n_q]:
    entries = torch.cdist(residual, codebook, compute_mode="donot_use_mm_for_euclid_dist").argmin(dim=1)
    residual = residual - codebook[entries]
    energy.append(float(residual.square().sum()))
    steps.append(entries)
codes = torch.stack(steps).numpy().astype(np.int32)  # [n_q, frames]

at_once = model.encode(torch.from_numpy(audio)[None, None], None, n_q, True)[0][0].numpy()
print(f"step by step, {np.mean(codes == at_once):.2%} of {codes.size} codes are those of one call")
left = ", ".join(f"{100 * part / energy[0]:.0f}%" for part in energy[1:])
print(f"after each codebook, of the latents' energy is left: {left}")
searched = codec.encode(audio, bandwidth=6.0)
print(f"the model's own search (beam {config.search_beam}) chooses {np.mean(searched != codes):.0%} other codes")

# %% Decode step by step: the entries' sum goes through the decoder
total = sum(model.quantizer.embed[level][torch.from_numpy(codes[level]).long()] for level in range(n_q))
assert isinstance(total, torch.Tensor)
with torch.inference_mode():
    decoded, _ = model.decoder(total.T[None], None, True)
whole = codec.decode(codes)
write("decoded", whole)
print(f"step by step, the samples differ from those of one call by at most {np.abs(decoded[0, 0].numpy() - whole).max():.1g}")


# %% Prefixes and single codebooks: what does each of them carry?
def alone(level: int) -> np.ndarray:
    """What one codebook says without the others."""
    with torch.inference_mode():
        entries = model.quantizer.embed[level][torch.from_numpy(codes[level]).long()]
    samples: np.ndarray = codec.decode_latents(np.ascontiguousarray(entries.numpy().T))
    return samples


prefixes = [count for count in (1, 2, 4, 8) if count <= n_q]
heard = {f"first {count}": codec.decode(codes, n_q=count) for count in prefixes}
heard |= {f"only {level + 1}": alone(level) for level in range(1, min(4, n_q))}  # the first alone is a prefix
for name, samples in heard.items():
    write(name.replace(" ", "-"), samples)
    print(f"{name:>8}: the error lies {distance_db(samples, audio):5.1f} dB below the recording")


def spectrum_db(samples: np.ndarray) -> np.ndarray:
    """The level of each frequency in windows of 32 ms, every 8 ms, in dB [bins, windows]."""
    size = round(0.032 * codec.sample_rate)
    padded = np.pad(samples[: len(audio)], (0, size))
    windows = np.lib.stride_tricks.sliding_window_view(padded, size)[:: size // 4] * np.hanning(size)
    levels: np.ndarray = 20 * np.log10(np.abs(np.fft.rfft(windows)).T + 1e-6)
    return levels


figure = Figure(figsize=(12, 5), layout="constrained")
grid = figure.subplots(2, 4, sharex=True, sharey=True)
top = float(spectrum_db(audio).max())
extent = (0.0, len(audio) / codec.sample_rate, 0.0, codec.sample_rate / 2000)
for axes, (name, samples) in zip(grid.flat, {"original": audio, **heard}.items(), strict=False):
    axes.imshow(spectrum_db(samples), aspect="auto", origin="lower", extent=extent, vmin=top - 80, vmax=top, cmap="magma")
    kind, number = name.split()[0], name.split()[-1]
    axes.set_title({"first": f"the first {number} of {n_q} codebooks", "only": f"codebook {number} alone"}.get(kind, name), fontsize=9)
figure.supxlabel("seconds")
figure.supylabel("kHz")
figure.savefig(options.out / "codebooks.png", dpi=100)

# %% Streaming: packets of 80 ms, each for itself as if it were a clip, or with a state that goes from packet to packet
packet = 6 * codec.hop_length
pieces = [audio[at : at + packet] for at in range(0, len(audio) // packet * packet, packet)]
naive = np.concatenate([codec.decode(codec.encode(piece, bandwidth=6.0)) for piece in pieces])

encoder, decoder = codec.stream_encoder(6.0, start="exact"), codec.stream_decoder(6.0, start="exact")
packets = [coded for piece in [*pieces, None] for coded in (encoder.flush() if piece is None else encoder.feed(piece))]
stateful = np.concatenate([*(decoder.feed(coded) for coded in packets), decoder.flush()])

clip = codec.decode(codec.encode(audio[: len(naive)], bandwidth=6.0))
seams = np.arange(packet, len(naive), packet)
jumps = {}
for name, samples in (("naive", naive), ("stateful", stateful)):
    write(f"streamed-{name}", samples)
    jump = np.abs(np.diff(samples))
    jumps[name] = float(jump[seams - 1].mean() / jump.mean())
    print(f"{name:>8}: {distance_db(samples, clip):5.1f} dB from the whole clip; a jump at a seam is {jumps[name]:.1f} times the usual one")

# %% The seams, seen: where the voice is loudest
middle = int(np.argmax(np.convolve(np.abs(clip), np.ones(3 * packet), "valid"))) // packet * packet
part = slice(middle, middle + 2 * packet)
times = np.arange(part.start, min(part.stop, len(clip))) / codec.sample_rate
figure = Figure(figsize=(12, 5.5), layout="constrained")
for axes, (name, samples) in zip(figure.subplots(2, 1, sharex=True, sharey=True), (("naive", naive), ("stateful", stateful)), strict=True):
    axes.plot(times, clip[part], color="0.7", linewidth=2.5, label="whole clip")
    axes.plot(times, samples[part], color="tab:red", linewidth=0.8, label=name)
    for seam in seams[(seams >= part.start) & (seams < part.stop)]:
        axes.axvline(seam / codec.sample_rate, color="tab:blue", linestyle=":", linewidth=1)
    axes.legend(loc="upper right", fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.margins(x=0)
figure.supxlabel("seconds (dotted: where packets meet)")
figure.savefig(options.out / "seams.png", dpi=100)
print(f"sounds and pictures are in {options.out}")
