"""`transformers.EncodecModel`'s calls, computed by an engine of this package."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from streamcodec.codec import Codec
from streamcodec.compat.transformers.config import EncodecConfig
from streamcodec.compat.transformers.folders import find, refuse_others, stored_config
from streamcodec.compat.transformers.loading import LoadOptions, check_saving
from streamcodec.compat.transformers.outputs import EncodecDecoderOutput, EncodecEncoderOutput, EncodecOutput
from streamcodec.compat.transformers.state import from_reference_names, to_reference_names
from streamcodec.compat.transformers.tensors import checked_chunks, checked_clips, checked_mask
from streamcodec.config import CodecConfig
from streamcodec.engine.base import EngineName
from streamcodec.engine.factory import make_engine
from streamcodec.errors import CodesError, InputError, TensorError
from streamcodec.model import encodec
from streamcodec.model.checkpoint import PREPROCESSOR_FILE, codes_fingerprint, load_file, save, weights_fingerprint
from streamcodec.model.modes import building
from streamcodec.output_file import write_bytes

__all__ = ["EncodecModel"]


class EncodecModel(nn.Module):
    """EnCodec with the calls and results of `transformers.EncodecModel`; torch tensors in, torch tensors out.

    `engine` is "auto" (OpenVINO on a CPU if it is installed, else torch), "openvino" or "torch". It runs on as many threads as torch is set
    to, in float32, and is made at the first call. Results carry no gradients. One thread at a time may call a model.

    `EncodecModel(config)` has random weights; `from_pretrained` loads saved ones.
    """

    base_model_prefix: ClassVar[str] = "encodec"
    main_input_name: ClassVar[str] = "input_values"
    config_class: ClassVar[type[EncodecConfig]] = EncodecConfig

    def __init__(self, config: EncodecConfig, *, engine: EngineName = "auto") -> None:
        super().__init__()
        if not isinstance(config, EncodecConfig):
            if not hasattr(config, "to_dict"):
                raise InputError(f"config is a {type(config).__name__}, expected an EncodecConfig")
            config = EncodecConfig.from_dict(config.to_dict())
        with building():
            network = encodec.EncodecModel(config.codec_config()).eval().requires_grad_(False)
        self._take(config, network, engine)

    def _take(self, config: EncodecConfig, network: encodec.EncodecModel, engine: EngineName) -> None:
        self.config = config
        self.network = network
        self._engine: EngineName = engine
        self._codec: Codec | None = None
        self.register_state_dict_post_hook(to_reference_names)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_pre_hook(from_reference_names)  # type: ignore[no-untyped-call]
        self.register_load_state_dict_post_hook(_forget_engine)  # type: ignore[no-untyped-call]

    @classmethod
    def from_pretrained(
        cls, pretrained_model_name_or_path: str | Path, *model_args: Any, engine: EngineName = "auto", **arguments: Any
    ) -> EncodecModel:
        """Load a saved model: a folder of `transformers`, any checkpoint that `streamcodec.load` takes, a hub id or an embedded name.

        `config` replaces the stored configuration and `state_dict` the stored weights; `device_map` may name one device; `dtype` is float32
        or "auto". Further arguments replace fields of the configuration. Raises `PretrainedNotFoundError` (an `OSError`), another
        `ModelError`, or `InputError` for arguments that have no meaning here.
        """
        options = LoadOptions.take(pretrained_model_name_or_path, arguments)
        if model_args:
            raise InputError(f"{len(model_args)} more positional argument(s), expected none")
        path = find(pretrained_model_name_or_path, options.subfolder)
        network = load_file(path)
        config, others = options.config, arguments
        if config is None:
            stored = EncodecConfig.from_dict(stored_config(path))
            config, others = EncodecConfig.from_dict(stored.to_dict(), return_unused_kwargs=True, **arguments)
            config.name_or_path = str(pretrained_model_name_or_path)
        refuse_others(others)
        model = cls.__new__(cls)
        nn.Module.__init__(model)
        model._take(config, network, engine)
        model._engine_config()
        if options.state_dict is not None:
            model.load_state_dict(options.state_dict)
        return model.to(options.device).eval()

    def save_pretrained(self, save_directory: str | Path, **arguments: Any) -> None:
        """Write a folder that `from_pretrained` and `transformers` read: weights, configuration and, if it has none, a preprocessor's."""
        if not check_saving(arguments):
            return
        folder = Path(save_directory)
        preprocessor = folder / PREPROCESSOR_FILE
        kept = preprocessor.read_bytes() if preprocessor.is_file() else None
        save(self.network, folder, layout="hf")
        if kept is not None:
            write_bytes(preprocessor, kept)
        config = EncodecConfig.from_dict({**self.config.to_dict(), "architectures": ["EncodecModel"], "dtype": "float32"})
        config.save_pretrained(folder)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return self.network.quantizer.embed.device

    @property
    def dtype(self) -> torch.dtype:
        """float32."""
        return self.network.quantizer.embed.dtype

    @property
    def name_or_path(self) -> str:
        """What the model was loaded from."""
        return self.config.name_or_path

    @property
    def bits_per_codebook(self) -> int:
        """Bits per code."""
        return self.config.codebook_nbits

    def encode(
        self,
        input_values: Tensor,
        padding_mask: Tensor | None = None,
        bandwidth: float | None = None,
        return_dict: bool | None = None,
    ) -> EncodecEncoderOutput | tuple[Tensor, list[Tensor | None], int]:
        """Encode float32 clips [B, channels, T]: codes int64 [chunks, B, n_q, frames], scales, and how many of the last frames are padding.

        `padding_mask` [B, T] or [B, channels, T] is 1 where a clip is and 0 where it was padded; it counts as silence there. `bandwidth` is
        one of the model's in kbps, by default the first of `config.target_bandwidths`. A tuple is returned if `return_dict` is false, or
        `config.return_dict`. Raises `InputError`; where torch raises `RuntimeError`, it is a `TensorError`, which is both.
        """
        n_q = self._n_q(bandwidth)
        clips = checked_clips(self.config, input_values, padding_mask)
        codec = self._ready()
        device = input_values.device
        codes, scales = zip(*codec.encode_clips(clips, n_q), strict=True)
        frames = codes[0].shape[-1]
        if any(chunk.shape[-1] != frames for chunk in codes[:-1]):
            raise TensorError(f"clips of {clips.shape[-1]} samples end in several short chunks, expected one: pad them to whole chunks")
        unused = frames - codes[-1].shape[-1]
        rows = [nn.functional.pad(torch.from_numpy(chunk), (0, frames - chunk.shape[-1])) for chunk in codes]
        result = (
            torch.stack(rows).to(device, torch.int64),
            [None if scale is None else torch.from_numpy(scale)[:, None].to(device) for scale in scales],
            unused,
        )
        return EncodecEncoderOutput(*result) if self._as_object(return_dict) else result

    def decode(
        self,
        audio_codes: Any,
        audio_scales: Any,
        padding_mask: Tensor | None = None,
        return_dict: bool | None = None,
        last_frame_pad_length: int | None = 0,
    ) -> EncodecDecoderOutput | tuple[Tensor]:
        """Decode what `encode` gave to samples [B, channels, T].

        `audio_codes` may have any number of codebooks; `audio_scales` has a tensor or None for each chunk. The result may be up to a frame
        longer than what was encoded, but not longer than `padding_mask`. Raises as `encode`.
        """
        whole = self.config.chunk_length is None
        chunks = checked_chunks(self._engine_config(), audio_codes, audio_scales, whole, last_frame_pad_length or 0)
        codec = self._ready()
        if whole:
            # A scale counts even where the model does not normalise.
            [(checked, scale)] = chunks
            samples = codec.decode_clips([(checked, None)])
            samples = samples if scale is None else samples * scale[:, None, None]
        else:
            samples = codec.decode_clips(chunks)
        values = torch.from_numpy(samples).to(audio_codes[0].device)
        if padding_mask is not None and padding_mask.shape[-1] < values.shape[-1]:
            values = values[..., : padding_mask.shape[-1]]
        return EncodecDecoderOutput(values) if self._as_object(return_dict) else (values,)

    def forward(
        self,
        input_values: Tensor | None,
        padding_mask: Tensor | None = None,
        bandwidth: float | None = None,
        audio_codes: Any = None,
        audio_scales: Any = None,
        return_dict: bool | None = None,
        last_frame_pad_length: int | None = 0,
    ) -> EncodecOutput | tuple[Tensor, Tensor]:
        """Encode and decode clips, or only decode `audio_codes` with their `audio_scales`; all arguments are as in `encode` and `decode`.

        The result is as long as the mask, or without one as `input_values`.
        """
        if padding_mask is not None:
            padding_mask = checked_mask(padding_mask)
        elif not isinstance(input_values, Tensor):
            raise InputError(f"input_values is a {type(input_values).__name__}, expected a tensor where there is no padding_mask")
        if (audio_codes is None) != (audio_scales is None):
            given, missing = ("audio_codes", "audio_scales") if audio_scales is None else ("audio_scales", "audio_codes")
            raise CodesError(f"{given} was given without {missing}")
        if audio_codes is None:
            assert input_values is not None
            encoded = self.encode(input_values, padding_mask, bandwidth, True)
            audio_codes, audio_scales, last_frame_pad_length = encoded[0], encoded[1], encoded[2]
        length_of = input_values if padding_mask is None else padding_mask
        values = self.decode(audio_codes, audio_scales, length_of, False, last_frame_pad_length)[0]
        return EncodecOutput(audio_codes, values) if self._as_object(return_dict) else (audio_codes, values)

    def _as_object(self, return_dict: bool | None) -> bool:
        return bool(self.config.return_dict if return_dict is None else return_dict)

    def _n_q(self, bandwidth: Any) -> int:
        choices = self.config.target_bandwidths
        try:
            kbps = choices[0] if bandwidth is None else next((each for each in choices if each == bandwidth), None)
        except (TypeError, RuntimeError, ValueError):  # an array is equal to none
            kbps = None
        if kbps is None:
            raise CodesError(f"bandwidth is {bandwidth!r}, this model has {', '.join(f'{each:g}' for each in choices)} kbps")
        return min(self.network.config.bandwidth_to_n_q(kbps), self.network.config.num_quantizers)

    def _engine_config(self) -> CodecConfig:
        """The network's configuration with those fields that may be changed after it was made."""
        now = self.config.codec_config()
        return replace(self.network.config, normalize=now.normalize, chunk_length_s=now.chunk_length_s, overlap=now.overlap)

    def _ready(self) -> Codec:
        """The codec for the configuration as it is now."""
        config = self._engine_config()
        if self._codec is None or self._codec.config != config:
            with building():
                network = self.network
                if network.config != config:
                    with torch.device("meta"):
                        network = encodec.EncodecModel(config).eval()
                    network.load_state_dict(self.network.state_dict(), assign=True)
                threads, device = torch.get_num_threads(), str(self.device)
                engine = make_engine(network, weights_fingerprint(network), self._engine, device=device, threads=threads)
                self._codec = Codec(engine, name=self.name_or_path or type(self).__name__, fingerprint=codes_fingerprint(network))
        return self._codec

    def _apply(self, fn: Callable[[Tensor], Tensor], recurse: bool = True) -> EncodecModel:
        """Move the weights, by `to`, `cuda` and their like; a dtype other than float32 is refused before anything changes."""
        dtype = fn(torch.empty(0)).dtype
        if dtype != torch.float32:
            raise InputError(f"dtype is {dtype}, expected torch.float32: the model runs in float32")
        super()._apply(fn, recurse)  # type: ignore[no-untyped-call]
        self._codec = None
        return self

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles make an engine of their own."""
        return {**self.__dict__, "_codec": None}


def _forget_engine(module: nn.Module, _: Any) -> None:
    module._codec = None  # type: ignore[assignment]
