"""What compiled code is made with: numba compiles functions for the processor that they run on, and stores the result on disk."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar, cast

import numba
from llvmlite import binding
from numba.extending import intrinsic

__all__ = ["LANES", "TILE", "compiled", "converts_half_precision", "generated"]

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
        try:
            found = numba.njit(nogil=True, cache=True, **options)(function)
        except RuntimeError:
            found = numba.njit(nogil=True, **options)(function)
        return cast(Callable[P, R], found)

    return decorate


def generated(function: Callable[..., Any]) -> Callable[..., Any]:
    """`numba.extending.intrinsic`, with a type: a function for compiled code, whose LLVM instructions `function` generates."""
    return cast(Callable[..., Any], intrinsic(function))
