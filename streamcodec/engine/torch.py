"""The reference engine: it runs the torch module itself, on a CPU or on another device of torch's (CUDA is untested)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from streamcodec.config import Start
from streamcodec.engine.base import StreamTraits, exact_start
from streamcodec.engine.graph import StateLayout
from streamcodec.engine.search import CodebookSearch
from streamcodec.model.encodec import EncodecModel
from streamcodec.model.modes import running
from streamcodec.types import Codes, Samples, States

__all__ = ["TorchEngine"]


class TorchEngine:
    """Runs the torch module `model` in eager mode on `device`, with the codebook search on `threads` threads per step.

    The default is as many as torch runs the model on. Up to `workers` steps run at the same time.

    On CUDA, TensorFloat-32 is switched off for the whole process: it rounds to 10 bits and gives other codes.
    """

    def __init__(self, model: EncodecModel, device: str = "cpu", workers: int = 1, threads: int | None = None) -> None:
        self.config = model.config
        self.workers = workers
        self.best_batches: tuple[int, ...] = ()
        self.device = torch.device(device)
        self.name = f"torch {torch.__version__} on {device}"
        if self.device.type == "cuda":
            torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self.model = model.to(self.device).eval().requires_grad_(False)
        self.search = CodebookSearch(model.quantizer, threads or torch.get_num_threads(), workers)
        self._primed_decoders: dict[int, States] = {}
        with running(self.device):
            primed = model.primed_encoder_state()
            self.encoder_layout = StateLayout.of(primed)
            self._primed_encoder: States = self._to_numpy(self.encoder_layout.pack(primed))[0]
            self.decoder_layout = StateLayout.of(model.primed_decoder_state(1))
        self.traits = StreamTraits.of(model.config, self.encoder_layout.size, self.decoder_layout.size)

    def prepare(self, packet_frames: int) -> None:
        pass

    def stop_preparing(self) -> None:
        pass

    def encoder_start(self, start: Start) -> States | None:
        if start == "primed":
            return self._primed_encoder.copy()
        return exact_start(self.config, self.traits.encoder_state_size)

    def decoder_start(self, start: Start, n_q: int) -> States | None:
        if start == "primed":
            if n_q not in self._primed_decoders:
                with running(self.device):
                    state = self.decoder_layout.pack(self.model.primed_decoder_state(n_q))
                self._primed_decoders[n_q] = self._to_numpy(state)[0]
            return self._primed_decoders[n_q].copy()
        return exact_start(self.config, self.traits.decoder_state_size, self.traits.decoder_hold_frames)

    def encode(self, samples: Samples, states: States | None, n_q: Sequence[int], final: bool = False) -> tuple[Codes, States]:
        with running(self.device):
            state = None if states is None else self.encoder_layout.unpack(self._to_torch(states))
            latents, state = self.model.encoder(self._to_torch(samples if samples.ndim == 3 else samples[:, None]), state, final)
            codes = self.search(self._to_numpy(latents), n_q) if self.device.type == "cpu" else self._search_on_device(latents, n_q)
            return codes, self._to_numpy(self.encoder_layout.pack(state))

    def _search_on_device(self, latents: Tensor, n_q: Sequence[int]) -> Codes:
        """All rows through as many levels as the widest row has: a device of its own gains nothing from shorter batches."""
        codes: Codes = self.model.quantizer.encode(latents, max(n_q)).to(torch.int32).cpu().numpy()
        unused = np.arange(max(n_q)) >= np.asarray(n_q)[:, None]
        codes[unused] = self.config.codebook_size
        return codes

    def decode(self, codes: Codes, states: States | None, final: bool = False) -> tuple[Samples, States]:
        return self.decode_step(self.embed(codes), states, final)

    def decode_step(self, latents: Samples, states: States | None, final: bool = False) -> tuple[Samples, States]:
        """The decoder without the look-up: latents [B, hidden_size, F] and states [B, S] -> samples [B, F * hop] and new states [B, S]."""
        with running(self.device):
            state = None if states is None else self.decoder_layout.unpack(self._to_torch(states))
            samples, state = self.model.decoder(self._to_torch(latents), state, final)
            if self.config.audio_channels == 1:
                samples = samples[:, 0]
            return self._to_numpy(samples), self._to_numpy(self.decoder_layout.pack(state))

    def embed(self, codes: Codes) -> Samples:
        with running(self.device):
            return self._to_numpy(self.model.quantizer.decode(self._to_torch(codes).to(torch.int64)).contiguous())

    def decode_latents(self, latents: Samples) -> Samples:
        return self.decode_step(latents, None, final=True)[0]

    def _to_torch(self, array: npt.NDArray[Any]) -> Tensor:
        # torch warns about a read-only array, since writing to the tensor would write to it; so a read-only array is copied.
        return torch.from_numpy(array if array.flags.writeable else array.copy()).to(self.device)

    @staticmethod
    def _to_numpy(tensor: Tensor) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        array: np.ndarray[tuple[int, ...], np.dtype[np.float32]] = tensor.cpu().numpy()
        return array
