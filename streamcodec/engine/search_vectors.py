"""The vector instructions of the codebook search, which numba does not make of such loops: functions for `search_kernel`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from llvmlite import ir
from numba.core import cgutils, types

from streamcodec.engine.compiling import LANES, TILE, ask_for, generated

__all__ = ["above", "multiply_1", "multiply_2", "multiply_4", "multiply_tile", "prefetch", "scoring"]

_F32, _I1, _I16, _I32, _I64 = ir.FloatType(), ir.IntType(1), ir.IntType(16), ir.IntType(32), ir.IntType(64)
_FLOATS, _INTS, _SHORTS = (ir.VectorType(number, LANES) for number in (_F32, _I32, _I16))
_utils: Any = cgutils

_AHEAD = 4096
"""By how many bytes a codebook is asked for ahead."""


class _Arrays:
    """The arrays among the arguments of a function that is generated."""

    def __init__(self, context: Any, builder: Any, signature: Any, arguments: Any) -> None:
        self._context, self._builder = context, builder
        self._arrays: list[Any] = [
            context.make_array(kind)(context, builder, argument) if isinstance(kind, types.Array) else None
            for kind, argument in zip(signature.args, arguments, strict=True)
        ]

    def pointer(self, array: int, offset: Any, number: Any) -> Any:
        """Where number `offset` of an argument is."""
        return self._builder.gep(self._builder.bitcast(self._arrays[array].data, number.as_pointer()), [offset])

    def size(self, array: int, axis: int) -> Any:
        return self._builder.extract_value(self._arrays[array].shape, axis)

    def load(self, address: Any, vector: Any) -> Any:
        loaded = self._builder.load(self._builder.bitcast(address, vector.as_pointer()))
        loaded.align = vector.element.get_abi_alignment(self._context.target_data)
        return loaded

    def store(self, vector: Any, address: Any) -> None:
        stored = self._builder.store(vector, self._builder.bitcast(address, vector.type.as_pointer()))
        stored.align = vector.type.element.get_abi_alignment(self._context.target_data)

    def spread(self, number: Any) -> Any:
        """A vector of copies of a number."""
        nothing = ir.Constant(ir.VectorType(number.type, LANES), ir.Undefined)
        return self._builder.shuffle_vector(
            self._builder.insert_element(nothing, number, _I32(0)), nothing, ir.Constant(_INTS, [0] * LANES)
        )


def _multiplying(rows: int) -> Callable[..., Any]:
    """A function that multiplies `rows` rows by the entries of one panel."""

    def multiply(_: Any, rounded: Any, row: Any, panels: Any, panel: Any, units: Any, offsets: Any, products: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arrays = _Arrays(context, builder, signature, arguments)
            shorts, whole = ir.VectorType(_I16, 2 * LANES), ir.VectorType(_I32, 2 * LANES)

            def every_other(vector: Any, start: int) -> Any:
                return builder.shuffle_vector(vector, vector, ir.Constant(_INTS, list(range(start, 2 * LANES, 2))))

            first, panel, pairs, width = arguments[1], arguments[3], arrays.size(2, 1), arrays.size(6, 1)
            row_at = arrays.pointer(0, builder.mul(first, pairs), _I32)  # two integers of 16 bits at once
            entries = arrays.pointer(2, builder.mul(builder.mul(panel, pairs), _I64(2 * LANES)), _I16)
            totals = [_utils.alloca_once_value(builder, ir.Constant(_INTS, [0] * LANES)) for _ in range(rows)]
            with _utils.for_range(builder, pairs) as loop:
                at = builder.mul(loop.index, _I64(2 * LANES))
                ask_for(builder, builder.gep(entries, [builder.add(at, _I64(_AHEAD // 2))]))
                column = builder.sext(arrays.load(builder.gep(entries, [at]), shorts), whole)
                for m, total in enumerate(totals):
                    pair = arrays.spread(builder.load(builder.gep(row_at, [builder.add(builder.mul(pairs, _I64(m)), loop.index)])))
                    # Processors have one instruction for this: multiply, and add what is side by side.
                    product = builder.mul(builder.sext(builder.bitcast(pair, shorts), whole), column, flags=("nsw",))
                    both = builder.add(every_other(product, 0), every_other(product, 1))
                    builder.store(builder.add(builder.load(total), both), total)
            at = builder.mul(panel, _I64(LANES))
            offset = arrays.load(arrays.pointer(5, at, _F32), _FLOATS)
            for m, total in enumerate(totals):
                this = builder.add(first, _I64(m))
                scaled = builder.fmul(
                    builder.sitofp(builder.load(total), _FLOATS), arrays.spread(builder.load(arrays.pointer(4, this, _F32)))
                )
                arrays.store(builder.fadd(scaled, offset), arrays.pointer(6, builder.add(builder.mul(this, width), at), _F32))
            return context.get_dummy_value()

        return types.void(rounded, types.int64, panels, types.int64, units, offsets, products), generate

    return generated(multiply)


multiply_1, multiply_2, multiply_4, multiply_tile = (_multiplying(rows) for rows in (1, 2, 4, TILE))
"""Multiply the rows from `row` on by the entries of one panel, and write the results to the same rows of `products` [R, panels * LANES].

A result is the inner product of a row of `rounded` [R, 2 * pairs] with an entry of `panels` [panels, pairs, LANES, 2], times the row's unit
in `units` [R], plus the entry's offset in `offsets` [panels * LANES].
"""


def scoring(depth: int) -> Callable[..., Any]:
    """A function that scores a path's continuations by the products of its base, and by the `depth` entries since then.

    It writes `products[base] - step * (the sum of depth rows of tables) - shift` to `scores[row]`, and to `peaks[row]` [LANES] the highest
    of each lane of all panels. The rows of `tables`, integers of 16 bits, begin at the numbers `starts[path, :depth]`; their sums must fit.
    """

    def score(
        _: Any, products: Any, base: Any, tables: Any, starts: Any, path: Any, step: Any, shift: Any, scores: Any, row: Any, peaks: Any  # noqa: ARG001
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            arrays = _Arrays(context, builder, signature, arguments)
            base, path, step, shift, row = (arguments[i] for i in (1, 4, 5, 6, 8))
            width, reach = arrays.size(0, 1), arrays.size(3, 1)
            inputs, outputs = (arrays.pointer(array, builder.mul(at, width), _F32) for array, at in ((0, base), (7, row)))
            begins = [
                arrays.pointer(2, builder.load(arrays.pointer(3, builder.add(builder.mul(path, reach), _I64(t)), _I64)), _I16)
                for t in range(depth)
            ]
            step, shift = arrays.spread(step), arrays.spread(shift)
            peak = _utils.alloca_once_value(builder, ir.Constant(_FLOATS, [float("-inf")] * LANES))
            with _utils.for_range(builder, builder.udiv(width, _I64(LANES))) as loop:
                at = builder.mul(loop.index, _I64(LANES))
                score = arrays.load(builder.gep(inputs, [at]), _FLOATS)
                if depth:
                    total, *others = (arrays.load(builder.gep(begin, [at]), _SHORTS) for begin in begins)
                    for other in others:
                        total = builder.add(total, other)
                    score = builder.fsub(score, builder.fmul(builder.sitofp(total, _FLOATS), step))
                score = builder.fsub(score, shift)
                arrays.store(score, builder.gep(outputs, [at]))
                highest = builder.load(peak)
                builder.store(builder.select(builder.fcmp_ordered(">", score, highest), score, highest), peak)
            arrays.store(builder.load(peak), arrays.pointer(9, builder.mul(row, _I64(LANES)), _F32))
            return context.get_dummy_value()

        number, real = types.int64, types.float32
        return types.void(products, number, tables, starts, number, real, real, scores, number, peaks), generate

    return generated(score)


@generated
def above(_: Any, scores: Any, row: Any, panel: Any, limit: Any) -> Any:  # noqa: ARG001
    """Which lanes of a panel of `scores[row]` are above a limit: bit i of the result says it of lane i."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = _Arrays(context, builder, signature, arguments)
        at = builder.add(builder.mul(arguments[1], arrays.size(0, 1)), builder.mul(arguments[2], _I64(LANES)))
        score = arrays.load(arrays.pointer(0, at, _F32), _FLOATS)
        lanes = builder.bitcast(builder.fcmp_ordered(">", score, arrays.spread(arguments[3])), ir.IntType(LANES))
        return builder.zext(lanes, _I64)

    return types.int64(scores, types.int64, types.int64, types.float32), generate


@generated
def prefetch(_: Any, array: Any, start: Any, count: Any) -> Any:  # noqa: ARG001
    """Ask for the `count` numbers of an array from the number `start` on: they will be read soon."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        arrays = _Arrays(context, builder, signature, arguments)
        kind, width = (_F32, 4) if array.dtype == types.float32 else (_I16, 2)
        line = 64 // width
        with _utils.for_range(builder, builder.udiv(builder.add(arguments[2], _I64(line - 1)), _I64(line))) as loop:
            at = builder.add(arguments[1], builder.mul(loop.index, _I64(line)))
            ask_for(builder, arrays.pointer(0, at, kind), 2)
        return context.get_dummy_value()

    return types.void(array, types.int64, types.int64), generate
