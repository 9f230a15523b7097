"""What compiled code is made with: numba compiles functions for the processor that they run on, and stores the result on disk.

numba stores a function by its own file alone, though it compiles what that calls in other files into it. So results are stored in a folder
of their own for each version of all these files: a new version never runs, nor reads, what an old one has stored.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path
from threading import Lock
from typing import Any, ParamSpec, TypeVar, cast

import numba
import numpy as np
from llvmlite import binding, ir
from numba.core import cgutils
from numba.extending import intrinsic

from streamcodec.engine.cache_root import cache_root, source_hash

__all__ = ["LANES", "TILE", "ask_for", "compiled", "converts_half_precision", "generated", "in_large_pages", "storage_folder"]

_SOURCES = ("compiling.py", "search_arrays.py", "search_kernel.py", "search_vectors.py", "step_kernel.py")
_config: Any = numba.config
_storing = Lock()  # while a function is declared, numba's folder for all functions is ours

P = ParamSpec("P")
R = TypeVar("R")

_FEATURES = binding.get_host_cpu_features()

LANES = 32 if _FEATURES.get("avx512f") else 16
"""The columns of a matrix that are multiplied at once: two vectors of AVX2 or AVX-512, four of NEON."""
TILE = 6
"""The rows that are multiplied at once. `TILE` times `LANES` sums are as many as fit into the registers, with what is added to them."""


def converts_half_precision() -> bool:
    """Whether this processor has an instruction that converts half precision to float32."""
    return binding.get_process_triple().startswith(("aarch64", "arm64")) or bool(_FEATURES.get("f16c"))


def compiled(**options: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Compile a function at its first call, and store the result if there is a folder that can be written."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        with _storing:
            before, _config.CACHE_DIR = _config.CACHE_DIR, str(storage_folder())
            try:
                found = numba.njit(nogil=True, cache=True, **options)(function)
            except RuntimeError:
                found = numba.njit(nogil=True, **options)(function)
            finally:
                _config.CACHE_DIR = before
        return cast(Callable[P, R], found)

    return decorate


@cache
def storage_folder() -> Path:
    """Where compiled code is stored: beside the sources, or in the user's cache folder where those cannot be written."""
    here = Path(__file__).parent
    version = f"compiled-{numba.__version__}-{source_hash(here / name for name in _SOURCES)[:12]}"
    return (here / "__pycache__" if os.access(here, os.W_OK) else cache_root()) / version


_PAGE = 2 << 20


def in_large_pages(array: Any) -> Any:
    """A copy of an array in large pages of memory, where the system has them: numpy asks for them for at least 4 MB.

    What is read here and there, or after much else, is found faster: a processor remembers the places of some hundred pages.
    """
    memory = np.empty(-(-array.nbytes // _PAGE) * _PAGE + 2 * _PAGE, np.uint8)
    begin = -memory.ctypes.data % _PAGE
    copy = memory[begin : begin + array.nbytes].view(array.dtype).reshape(array.shape)
    copy[...] = array
    return copy


def generated(function: Callable[..., Any]) -> Callable[..., Any]:
    """`numba.extending.intrinsic`, with a type: a function for compiled code, whose LLVM instructions `function` generates."""
    return cast(Callable[..., Any], intrinsic(function))


def ask_for(builder: Any, address: Any, near: int = 3) -> None:
    """Generate the instruction that fetches memory which will be read soon: into the first cache, or with `near` 2 into the second."""
    utils: Any = cgutils
    pointer, number = ir.IntType(8).as_pointer(), ir.IntType(32)
    kind = ir.FunctionType(ir.VoidType(), [pointer, number, number, number])
    function = utils.get_or_insert_function(builder.module, kind, "llvm.prefetch.p0i8")
    builder.call(function, [builder.bitcast(address, pointer), number(0), number(near), number(1)])
