"""What the model's calls return: a dataclass whose fields can also be reached by name or by position, as in `transformers`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, NoReturn

from torch import Tensor

from streamcodec.errors import InputError

__all__ = ["EncodecDecoderOutput", "EncodecEncoderOutput", "EncodecOutput", "ModelOutput"]


class ModelOutput(dict[str, Any]):
    """The fields of a result that are not None, in order: `out.audio_codes`, `out["audio_codes"]` and `out[0]` are one."""

    def __getitem__(self, key: Any) -> Any:
        return super().__getitem__(key) if isinstance(key, str) else self.to_tuple()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        super().__setitem__(key, value)
        super().__setattr__(key, value)

    def __setattr__(self, name: str, value: Any) -> None:
        if value is not None and any(field.name == name for field in fields(self)):  # type: ignore[arg-type]
            super().__setitem__(name, value)
        super().__setattr__(name, value)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), tuple(getattr(self, field.name) for field in fields(self))  # type: ignore[arg-type]

    def to_tuple(self) -> tuple[Any, ...]:
        """The values of all fields that are not None."""
        return tuple(self.values())

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise InputError(f"a {type(self).__name__} keeps the fields that it has")

    __delitem__ = pop = popitem = clear = update = setdefault = _refuse


@dataclass(eq=False)
class EncodecEncoderOutput(ModelOutput):
    """What `EncodecModel.encode` returns.

    `audio_codes` are int64 [chunks, B, n_q, frames], `audio_scales` one float32 [B, 1] or None for each chunk. The last
    `last_frame_pad_length` frames of the last chunk are padding.
    """

    audio_codes: Tensor | None = None
    audio_scales: Sequence[Tensor | None] | None = None
    last_frame_pad_length: int | None = None


@dataclass(eq=False)
class EncodecDecoderOutput(ModelOutput):
    """What `EncodecModel.decode` returns: `audio_values`, float32 [B, channels, T]."""

    audio_values: Tensor | None = None


@dataclass(eq=False)
class EncodecOutput(ModelOutput):
    """What a call of `EncodecModel` returns: the fields are as in the two other outputs."""

    audio_codes: Tensor | None = None
    audio_values: Tensor | None = None
