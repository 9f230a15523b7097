"""The model's own modes: it loads and runs in float32 and without autocast, whatever the caller's torch is set to.

torch's modes belong to the thread or the process that called us. Under `torch.autocast` convolutions would run in half precision and give
other codes, and under another default dtype or device a model would be built of the wrong tensors.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch

__all__ = ["building", "running"]


@contextmanager
def running(device: torch.device) -> Iterator[None]:
    """Run a model on `device`: no gradients, no autocast, and new tensors on that device."""
    with torch.inference_mode(), torch.autocast(device.type, enabled=False), _new_tensors_on(device):
        yield


@contextmanager
def building() -> Iterator[None]:
    """Load, convert or save a model: new tensors are float32, on the CPU, and no inference tensors, so that the model may be trained later.

    The default dtype is the process's, so it is set back at the end.
    """
    dtype = torch.get_default_dtype()
    torch.set_default_dtype(torch.float32)
    try:
        with torch.inference_mode(False), torch.autocast("cpu", enabled=False), _new_tensors_on(torch.device("cpu")):
            yield
    finally:
        torch.set_default_dtype(dtype)


def _new_tensors_on(device: torch.device) -> AbstractContextManager[object]:
    """New tensors are on `device`."""
    # Under a device's context torch calls Python for each operation, which takes as long as the operation: it is entered only where needed.
    return nullcontext() if torch.get_default_device() == device else device
