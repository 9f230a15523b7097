"""Checkpoints in and out: every known layout becomes one set of plain tensors, checked against the config before a model exists.

The canonical names are those of `transformers`' EncodecModel with weight norm folded (`encoder.layers.0.conv.weight`), transposed
convolutions in PyTorch's own layout. Three layouts are read and written:

- `streamcodec`: one safetensors file of canonical tensors, its config and fingerprint in the header;
- `hf`: a folder of `config.json` and `model.safetensors`, weight-normed, which `transformers` loads;
- `meta`: a `.th` state dict with the names of the package `encodec`.
"""

from __future__ import annotations

import hashlib
import json
import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

import safetensors
import safetensors.torch
import torch
from torch import Tensor

from streamcodec.config import CodecConfig
from streamcodec.errors import CheckpointError, ModelNotFoundError, UnsupportedModelError
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.layers import CausalConvTranspose1d

__all__ = ["LAYOUTS", "Layout", "fingerprint", "load_file", "save"]

Layout = Literal["streamcodec", "hf", "meta"]
LAYOUTS: tuple[Layout, ...] = ("streamcodec", "hf", "meta")

_META_NAMES = (
    (re.compile(r"^(encoder|decoder)\.model\.(\d+)\."), r"\1.layers.\2."),
    (re.compile(r"\.convtr\.convtr\."), ".conv."),
    (re.compile(r"\.conv\.conv\."), ".conv."),
    (re.compile(r"^quantizer\.vq\.layers\.(\d+)\._codebook\."), r"quantizer.layers.\1.codebook."),
)
_WEIGHT_NORM = (("weight_g", "weight_v"), ("parametrizations.weight.original0", "parametrizations.weight.original1"))
_TRAINING_ONLY = re.compile(r"^quantizer\.layers\.\d+\.codebook\.(inited|cluster_size|embed_avg)$")
_EMBED = re.compile(r"^quantizer\.layers\.(\d+)\.codebook\.embed$")


def load_file(path: Path) -> EncodecModel:
    """Load a checkpoint of any layout: a `.safetensors` file, a folder with `config.json`, or a `.th` state dict.

    Raises `ModelNotFoundError` where there is none, `CheckpointError` where it is damaged or its tensors do not fit its config, and
    `UnsupportedModelError` for a model that cannot stream.
    """
    if path.is_dir():
        config = _read_config(path / "config.json")
        tensors, _ = _read_safetensors(path / "model.safetensors")
    elif not path.exists():
        raise ModelNotFoundError(f"{path}: no such file or folder")
    elif path.suffix == ".safetensors":
        tensors, metadata = _read_safetensors(path)
        sibling = path.with_name("config.json")
        if "config" in metadata:
            config = CodecConfig.from_dict(_parse_config(metadata["config"], path))
        elif sibling.exists():
            config = _read_config(sibling)
        else:
            raise CheckpointError(f"{path}: no config in its header and no config.json beside it")
        model = _build(config, _canonical(tensors, path), path)
        stored = metadata.get("fingerprint")
        if stored is not None and stored != fingerprint(model):
            raise CheckpointError(
                f"{path}: its tensors have fingerprint {fingerprint(model)}, its header says {stored}: the file is damaged"
            )
        return model
    else:
        tensors = _read_torch(path)
        canonical = _canonical(tensors, path)
        return _build(_infer_config(canonical, path), canonical, path)
    return _build(config, _canonical(tensors, path), path)


def save(model: EncodecModel, path: Path, *, layout: Layout = "streamcodec", dtype: torch.dtype = torch.float32) -> None:
    """Write `model` to `path`: a file for the layouts `streamcodec` and `meta`, a folder for `hf`."""
    tensors = {name: tensor.detach().to(dtype).contiguous() for name, tensor in _to_canonical(model).items()}
    if layout == "streamcodec":
        stored = EncodecModel(model.config)
        _load_canonical(stored, {name: tensor.float() for name, tensor in tensors.items()})
        path.parent.mkdir(parents=True, exist_ok=True)
        metadata = {"format": "streamcodec", "config": json.dumps(model.config.to_dict()), "fingerprint": fingerprint(stored)}
        # Not save_file: it leaves a file that nobody else may read.
        path.write_bytes(safetensors.torch.save(tensors, metadata))
    elif layout == "hf":
        path.mkdir(parents=True, exist_ok=True)
        named = _with_training_buffers(_unfold(tensors, _WEIGHT_NORM[1]))
        (path / "model.safetensors").write_bytes(safetensors.torch.save(named, {"format": "pt"}))
        config = {**model.config.to_dict(), **_HF_CONSTANTS, "dtype": str(dtype).removeprefix("torch.")}
        (path / "config.json").write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    elif layout == "meta":
        inferred, config = _infer_config(tensors, path).to_dict(), {**model.config.to_dict(), "norm_type": "weight_norm"}
        lost = [f"{field} {value!r}" for field, value in config.items() if inferred[field] != value]
        if lost:
            raise UnsupportedModelError(
                f"{path}: a .th file carries no config, so it would lose {', '.join(lost)}: use layout hf or streamcodec"
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        named = _with_training_buffers(_unfold(tensors, _WEIGHT_NORM[0]))
        torch.save({_to_meta_name(name, model.config): tensor for name, tensor in named.items()}, path)
    else:
        raise CheckpointError(f"layout is {layout!r}, expected one of {', '.join(LAYOUTS)}")


def fingerprint(model: EncodecModel) -> str:
    """32 hexadecimal digits that two ends compare: a hash of the folded weights, as float32, and of the config that shapes the sums.

    How weights were stored and how an encoder searches is its own affair: whoever decodes needs neither.
    """
    config = model.config.to_dict()
    for own in ("norm_type", "search_beam"):
        del config[own]
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for name, tensor in sorted(_to_canonical(model).items()):
        digest.update(f"{name} {list(tensor.shape)}".encode())
        digest.update(tensor.detach().float().cpu().contiguous().numpy().astype("<f4", copy=False).tobytes())
    return digest.hexdigest()[:32]


# Reading ---------------------------------------------------------------------------------------------------------------------------


def _parse_config(text: str, path: Path) -> Mapping[str, Any]:
    try:
        values = json.loads(text)
    except (ValueError, RecursionError) as exc:
        raise CheckpointError(f"{path}: the config is not JSON: {exc}") from exc
    if not isinstance(values, dict):
        raise CheckpointError(f"{path}: the config is a {type(values).__name__}, expected an object")
    kind = values.get("model_type", "encodec")
    if kind != "encodec":
        raise UnsupportedModelError(f"{path}: model_type is {kind!r}, expected 'encodec'")
    return values


def _read_config(path: Path) -> CodecConfig:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as exc:
        raise ModelNotFoundError(f"{path.parent}: has no config.json, so it is no model folder") from exc
    except (OSError, UnicodeDecodeError) as exc:
        raise CheckpointError(f"{path}: cannot be read: {exc}") from exc
    return CodecConfig.from_dict(_parse_config(text, path))


def _read_safetensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    if not path.exists():
        raise ModelNotFoundError(f"{path}: no such file")
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (safetensors.SafetensorError, OSError, ValueError) as exc:
        raise CheckpointError(f"{path}: not a readable safetensors file ({exc})") from exc


def _read_torch(path: Path) -> dict[str, Tensor]:
    named_hash = re.search(r"-([0-9a-f]{8})\.th$", path.name)
    if named_hash:
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        if not digest.startswith(named_hash[1]):
            raise CheckpointError(f"{path}: its sha256 starts with {digest[:8]}, its name says {named_hash[1]}: the file is damaged")
    try:
        with warnings.catch_warnings(action="ignore"):
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as exc:  # torch's restricted unpickler lets through whatever a damaged pickle makes it stumble over
        first_line = str(exc).strip().split("\n")[0][:200]
        raise CheckpointError(f"{path}: not a readable PyTorch state dict ({first_line or type(exc).__name__})") from exc
    if isinstance(loaded, dict) and isinstance(loaded.get("best_state"), dict):
        loaded = loaded["best_state"]
    if not isinstance(loaded, dict) or not loaded or not all(isinstance(k, str) and isinstance(v, Tensor) for k, v in loaded.items()):
        raise CheckpointError(f"{path}: holds {type(loaded).__name__}, expected a state dict of named tensors")
    return loaded


def _canonical(tensors: Mapping[str, Tensor], path: Path) -> dict[str, Tensor]:
    named: dict[str, Tensor] = {}
    for original, tensor in tensors.items():
        name = original
        for pattern, replacement in _META_NAMES:
            name = pattern.sub(replacement, name)
        if name in named:
            raise CheckpointError(f"{path}: has {original}, which is {name} under another name")
        if not _TRAINING_ONLY.match(name):
            named[name] = tensor.float()
    return _fold(named, path)


def _fold(tensors: dict[str, Tensor], path: Path) -> dict[str, Tensor]:
    """Replace each pair of weight norm, w = g v / |v|, by the weight it stands for."""
    for scale, direction in _WEIGHT_NORM:
        for name in [n for n in tensors if n.endswith("." + scale)]:
            layer = name.removesuffix(scale)
            if layer + direction not in tensors:
                raise CheckpointError(f"{path}: has {name} but not {layer + direction}")
            g, v = tensors.pop(name), tensors.pop(layer + direction)
            if v.dim() == 0:
                raise CheckpointError(f"{path}: {layer + direction} has shape [], expected a kernel")
            if g.shape != (v.shape[0],) + (1,) * (v.dim() - 1):
                raise CheckpointError(f"{path}: {name} has shape {list(g.shape)}, expected {[v.shape[0]] + [1] * (v.dim() - 1)}")
            if layer + "weight" in tensors:
                raise CheckpointError(f"{path}: has {layer}weight both plain and weight-normed")
            tensors[layer + "weight"] = v * (g / torch.norm_except_dim(v, 2, 0))
    return tensors


def _infer_config(tensors: Mapping[str, Tensor], path: Path) -> CodecConfig:
    """The config of a state dict that comes without one, from its shapes; what shapes cannot tell is as in the published 24 kHz model."""
    if any(".norm." in name for name in tensors):
        raise UnsupportedModelError(f"{path}: has group-norm layers, as the 48 kHz model does: it needs whole clips and cannot stream")

    def shape_of(name: str, axes: int) -> tuple[int, ...]:
        shape = tuple(tensors[name].shape)
        if len(shape) != axes or 0 in shape:
            raise CheckpointError(f"{path}: {name} has shape {list(shape)}, expected {axes} axes, none empty")
        return shape

    try:
        first = shape_of("encoder.layers.0.conv.weight", 3)
        numbers = sorted(int(m[1]) for n in tensors if (m := re.match(r"^encoder\.layers\.(\d+)\.conv\.weight$", n)))
        convs = [shape_of(f"encoder.layers.{number}.conv.weight", 3) for number in numbers]
        strides = [kernel // 2 for _, _, kernel in convs[1:-1]]
        blocks = {int(m[1]) for n in tensors if (m := re.match(r"^encoder\.layers\.(\d+)\.block\.", n))}
        residual = shape_of(f"encoder.layers.{min(blocks)}.block.1.conv.weight", 3) if blocks else None
        codebooks = [n for n in tensors if _EMBED.match(n)]
        codebook = shape_of("quantizer.layers.0.codebook.embed", 2)
        bandwidths = (1.5, 3.0, 6.0, 12.0, 24.0)
        draft = CodecConfig(
            audio_channels=first[1],
            num_filters=first[0],
            upsampling_ratios=tuple(reversed(strides)),
            hidden_size=convs[-1][0],
            num_lstm_layers=sum(1 for n in tensors if re.match(r"^encoder\.layers\.\d+\.lstm\.weight_ih_l\d+$", n)),
            num_residual_layers=len(blocks) // max(1, len(strides)),
            kernel_size=first[2],
            last_kernel_size=convs[-1][2],
            residual_kernel_size=3 if residual is None else residual[2],
            compress=2 if residual is None else residual[1] // residual[0],
            use_conv_shortcut=any(".shortcut." in n for n in tensors),
            codebook_size=codebook[0],
            codebook_dim=codebook[1],
        )
    except KeyError as exc:
        raise CheckpointError(f"{path}: not an EnCodec state dict: {exc} is missing among {len(tensors)} tensors") from exc
    highest = draft.bandwidth_of(len(codebooks))
    kept = tuple(b for b in bandwidths if b <= highest + 1e-6)
    return CodecConfig.from_dict({**draft.to_dict(), "target_bandwidths": kept or (highest,)})


def _build(config: CodecConfig, tensors: dict[str, Tensor], path: Path) -> EncodecModel:
    # Without storage until the tensors are known to fit: a config may ask for any size.
    with torch.device("meta"):
        model = EncodecModel(config)
    expected = {name: tuple(tensor.shape) for name, tensor in _to_canonical(model).items()}
    missing, extra = sorted(expected.keys() - tensors.keys()), sorted(tensors.keys() - expected.keys())
    if missing or extra:
        told = [f"{label} {_few(names)}" for label, names in (("lacks", missing), ("has unexpected", extra)) if names]
        raise CheckpointError(f"{path}: does not fit its config: it {' and '.join(told)}")
    for name, shape in expected.items():
        if tuple(tensors[name].shape) != shape:
            raise CheckpointError(f"{path}: {name} has shape {list(tensors[name].shape)}, its config asks for {list(shape)}")
        if not torch.isfinite(tensors[name]).all():
            raise CheckpointError(f"{path}: {name} holds NaN or infinity")
    _load_canonical(model, tensors)
    return model.eval().requires_grad_(False)


def _few(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")


# Between the model's own tensors and the canonical ones -----------------------------------------------------------------------------


def _transposed_layers(model: EncodecModel) -> dict[str, CausalConvTranspose1d]:
    return {f"{name}.conv.weight": layer for name, layer in model.named_modules() if isinstance(layer, CausalConvTranspose1d)}


def _to_canonical(model: EncodecModel) -> dict[str, Tensor]:
    transposed = _transposed_layers(model)
    tensors: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if name == "quantizer.embed":
            tensors.update({f"quantizer.layers.{i}.codebook.embed": embed for i, embed in enumerate(tensor)})
        elif name in transposed:
            tensors[name] = CausalConvTranspose1d.to_transposed(tensor, transposed[name].stride)
        else:
            tensors[name] = tensor
    return tensors


def _load_canonical(model: EncodecModel, tensors: Mapping[str, Tensor]) -> None:
    transposed = _transposed_layers(model)
    state = {n: CausalConvTranspose1d.from_transposed(t) if n in transposed else t for n, t in tensors.items() if not _EMBED.match(n)}
    state["quantizer.embed"] = torch.stack([tensors[f"quantizer.layers.{i}.codebook.embed"] for i in range(model.config.num_quantizers)])
    model.load_state_dict(state, assign=True)


# Writing ---------------------------------------------------------------------------------------------------------------------------

_HF_CONSTANTS = {
    "architectures": ["EncodecModel"],
    "model_type": "encodec",
    "norm_type": "weight_norm",
    "use_causal_conv": True,
    "normalize": False,
    "chunk_length_s": None,
    "overlap": None,
}


def _unfold(tensors: Mapping[str, Tensor], spelling: tuple[str, str]) -> dict[str, Tensor]:
    """Spell each conv weight as weight norm does, with v = w and g = |v|, so that folding gives w back bit for bit."""
    named: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(".conv.weight"):
            layer = name.removesuffix("weight")
            norm = torch.norm_except_dim(tensor.float(), 2, 0).to(tensor.dtype)
            named[layer + spelling[0]], named[layer + spelling[1]] = norm, tensor
        else:
            named[name] = tensor
    return named


def _with_training_buffers(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    for name in [n for n in tensors if _EMBED.match(n)]:
        embed = tensors[name]
        prefix = name.removesuffix("embed")
        tensors[prefix + "embed_avg"] = embed.clone()
        tensors[prefix + "cluster_size"] = torch.ones(embed.shape[0], dtype=embed.dtype)
        tensors[prefix + "inited"] = torch.ones(1, dtype=embed.dtype)
    return tensors


def _to_meta_name(name: str, config: CodecConfig) -> str:
    name = re.sub(r"^quantizer\.layers\.(\d+)\.codebook\.", r"quantizer.vq.layers.\1._codebook.", name)
    first_up = 3 if config.num_lstm_layers else 2
    spacing = 2 + config.num_residual_layers
    transposed = {first_up + i * spacing for i in range(len(config.upsampling_ratios))}

    in_decoder = re.match(r"^decoder\.layers\.(\d+)\.conv\.", name)
    conv = ".convtr.convtr." if in_decoder and int(in_decoder[1]) in transposed else ".conv.conv."
    name = name.replace(".conv.", conv, 1)
    return re.sub(r"^(encoder|decoder)\.layers\.", r"\1.model.", name)
