"""The encoder or the decoder as OpenVINO networks, each of which is converted and compiled when it is first used.

Each part of it has two networks. The one for live steps runs the middle of streams and is the fastest for a few frames. The one for clips
has further inputs, which say how each layer is padded (`streamcodec.model.padding`): so it runs any step, also one that starts or ends a
stream, and it is a few percent slower. It runs all long steps, so that a program which handles only clips loads only that network.
"""

from __future__ import annotations

import threading
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from streamcodec.engine.base import MAX_LIVE_FRAMES
from streamcodec.engine.graph import FlatLayers, StateLayout
from streamcodec.engine.openvino.cache import load_or_convert
from streamcodec.engine.openvino.network import Chain, OpenVinoNetwork, Shapes, openvino
from streamcodec.engine.openvino.packets import PacketSteps
from streamcodec.model.layers import Sequence1d
from streamcodec.model.modes import building, running
from streamcodec.model.padding import Index
from streamcodec.types import Samples, States

__all__ = ["Half", "Part", "Precision", "convert"]

Precision = Literal["fp32", "bf16"]

_TRACING = threading.Lock()  # torch traces one module at a time: two threads that load models would disturb each other


@dataclass(frozen=True)
class Part:
    """Layers that become one network: its name, the shape of one frame of its input x, and its precision."""

    name: str
    layers: Sequence1d
    frame: Sequence[int]
    precision: Precision

    @property
    def clip_name(self) -> str:
        """The name of the network for clips. It is that of the live one if the start and the end of a stream are padded as its middle."""
        return f"{self.name}-clip" if self.indices(2 * self.frame[-1], start=True, final=True)[0] else self.name

    def indices(self, length: int, *, start: bool, final: bool) -> tuple[list[Index], int]:
        """The indices for a step over `length` inputs, and the length of its output."""
        with running(torch.device("cpu")):
            return self.layers.indices(length, start, final)


class Half:
    """Runs the encoder or the decoder, whose `parts` follow one another and whose states have `layout`.

    The first part takes audio [B, T] if `audio_in`; the last one returns audio if `audio_out`. `compile(network, precision, specialize)`
    compiles a network; `specialize` is true if shapes that are used often shall get networks of their own. If there is `with_program`, the
    only part's live steps run on what it makes of the part, the size of its states, the longest live step and the network.
    """

    def __init__(
        self,
        parts: Sequence[Part],
        layout: StateLayout,
        fingerprint: str,
        compile: Callable[[Any, Precision, bool], OpenVinoNetwork],
        with_program: Callable[[Part, int, int, OpenVinoNetwork], PacketSteps] | None,
        *,
        audio_in: bool = False,
        audio_out: bool = False,
    ) -> None:
        self._parts = list(parts)
        self._fingerprint = fingerprint
        self._compile = compile
        self._with_program = with_program
        self._size = layout.size
        self._modules = []
        for i, part in enumerate(parts):
            part_layout, layout = layout.cut(part.layers.num_states)
            is_first, is_last = i == 0, i == len(parts) - 1
            self._modules.append(FlatLayers(part.layers, part_layout, audio_in=audio_in and is_first, audio_out=audio_out and is_last))
        self._pads = any(part.clip_name != part.name for part in parts)
        self._longest_live_step = MAX_LIVE_FRAMES * parts[0].frame[-1]
        self._networks: dict[str, OpenVinoNetwork] = {}
        self._making = threading.RLock()

    def __call__(self, x: Samples, states: States | None, final: bool = False) -> tuple[Samples, States]:
        """Run a step over x [B, ..., T] from states [B, S]; None starts the streams. Return y and the new states."""
        start, x = states is None, np.ascontiguousarray(x)
        if states is None:
            states = np.zeros((len(x), self._size), np.float32)
        if not self._pads or not (start or final or x.shape[-1] > self._longest_live_step):
            y, states = self.live(x, states)
            return y, states
        indices, length = [], x.shape[-1]
        for part in self._parts:
            used, length = part.indices(length, start=start, final=final)
            indices.append(used)
        return self._clip(x, states, indices)

    @cached_property
    def live(self) -> OpenVinoNetwork | PacketSteps | Chain:
        """What runs live steps: all networks for them, as one callable."""
        networks = [self._network(i) for i in range(len(self._parts))]
        if self._with_program is not None:
            return self._with_program(self._parts[0], self._size, self._longest_live_step, networks[0])
        return networks[0] if len(networks) == 1 else self._chain(networks)

    @cached_property
    def _clip(self) -> Chain:
        return self._chain([self._network(i, for_clips=part.clip_name != part.name) for i, part in enumerate(self._parts)])

    def _chain(self, networks: Sequence[OpenVinoNetwork]) -> Chain:
        return Chain([(network, module.layout.size) for network, module in zip(networks, self._modules, strict=True)])

    @property
    def specialized_shapes(self) -> list[Shapes]:
        """The input shapes for which one of the networks has a specialized copy now."""
        return [shapes for network in list(self._networks.values()) for shapes in network.specialized_shapes]

    def prepare(self, packet_frames: int, batches: Sequence[int]) -> None:
        """Compile networks for live steps of `packet_frames` frames and these batch sizes, in the background."""
        for i, (part, module) in enumerate(zip(self._parts, self._modules, strict=True)):
            *channels, length = part.frame
            shapes = [((rows, *channels, length * packet_frames), (rows, module.layout.size)) for rows in batches]
            (self.live if isinstance(self.live, PacketSteps) else self._network(i)).prepare(shapes)

    def stop_preparing(self) -> None:
        """Cancel the compilations that have not begun."""
        for network in list(self._networks.values()):
            network.stop_preparing()
        if isinstance(live := self.__dict__.get("live"), PacketSteps):  # not made for this
            live.stop_preparing()

    def _network(self, i: int, *, for_clips: bool = False) -> OpenVinoNetwork:
        """Load or convert a network of part `i`, for x [B, *frame] with any number of frames; for clips, the last may be cut short."""
        part, module = self._parts[i], self._modules[i]
        name = part.clip_name if for_clips else part.name
        with self._making:
            if name not in self._networks:
                *channels, length = part.frame
                indices = part.indices(2 * length, start=True, final=True)[0] if for_clips else []
                with building():
                    example = (torch.zeros(2, *channels, 2 * length), torch.zeros(2, module.layout.size), *map(torch.from_numpy, indices))
                shapes = ([-1, *channels, -1], [-1, module.layout.size], *([-1] for _ in indices))
                network = load_or_convert(self._fingerprint, name, lambda: convert(module, example, shapes))
                self._networks[name] = self._compile(network, part.precision, not for_clips)
            return self._networks[name]


def convert(module: nn.Module, example: tuple[torch.Tensor, ...], shapes: Sequence[list[int]]) -> Any:
    """Convert a module, traced on the `example`, to a network of OpenVINO for inputs of these shapes; -1 stands for any size."""
    # Tracing warns about loops over a fixed number of codebooks, and that tracing is deprecated.
    with _TRACING, building(), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        # OpenVINO would trace it with a check that runs the module twice more and imports much of torch.
        traced: Any = torch.jit.trace(module.eval(), example, check_trace=False)  # type: ignore[no-untyped-call]
        network = openvino().convert_model(traced, example_input=example)
    network.reshape({i: openvino().PartialShape(shape) for i, shape in enumerate(shapes)})
    return network
