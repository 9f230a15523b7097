"""The arithmetic of a step as compiled functions: matrix products and element-wise functions in vector instructions.

numba compiles them for the processor that they run on, and stores the result on disk. A step of one stream spends its time on reading
weights, and one of many streams on multiplications. So weights are stored in half precision where that is exact, each part of a matrix
is read once for all rows, and `_multiply` keeps its sums in the processor's registers.

All arrays are flat, and every number that says where something is counts floats. A product may write up to `LANES` - 1 floats more than
it should behind each stream's last row, so whoever lays out memory leaves that room.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from llvmlite import ir
from numba.core import cgutils, types

from streamcodec.engine.compiling import LANES, TILE, ask_for, compiled, generated

__all__ = ["ROOM", "Op", "run_step"]

Floats = npt.NDArray[np.float32]
Weights = npt.NDArray[np.float32] | npt.NDArray[np.uint16]

_BLOCK = 2 * LANES
"""The numbers that an element-wise function handles at once: several vectors, so that none waits for another."""
ROOM = _BLOCK
"""The numbers behind each buffer that an operation may overwrite."""
_F32, _I32, _I64 = ir.FloatType(), ir.IntType(32), ir.IntType(64)


_AHEAD = 4096
"""By how many bytes weights are asked for ahead: they lie in the order in which they are read, and memory takes its time."""
_LOG2_E = 1.4426950408889634
_WHOLE = 1.5 * 2.0**23
_POWERS_OF_2 = (
    *(1.3264727197361851e-3, 9.671512639655488e-3, 5.550733743251503e-2),
    *(2.4022242085374942e-1, 6.931469775991641e-1, 1.0),
)
"""The coefficients of a polynomial near 2^x from -1/2 to 1/2, exact to 1e-7; the highest power first."""


def _multiplying(rows: int, split: int) -> Callable[..., Any]:
    """A function that multiplies `rows` rows by one panel; each sum is the sum of `split` parts, so that few rows have enough to add to."""

    def multiply(
        _: Any, x: Any, x_at: Any, x_step: Any, depth: Any, panels: Any, panel: Any,  # noqa: ARG001
        first: Any, first_at: Any, first_step: Any, y: Any, y_at: Any, y_step: Any,  # noqa: ARG001
    ) -> Any:  # fmt: skip
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            utils: Any = cgutils
            vector = ir.VectorType(_F32, LANES)
            stored = ir.HalfType() if panels.dtype == types.uint16 else _F32

            def pointer(array: int, at: int, number: Any = _F32) -> Any:
                data = context.make_array(signature.args[array])(context, builder, arguments[array]).data
                return builder.gep(builder.bitcast(data, number.as_pointer()), [arguments[at]])

            def load(address: Any, number: Any = _F32) -> Any:
                loaded = builder.load(builder.bitcast(address, ir.VectorType(number, LANES).as_pointer()))
                loaded.align = number.get_abi_alignment(context.target_data)
                return loaded if number is _F32 else builder.fpext(loaded, vector)

            x_row, weights = pointer(0, 1), pointer(4, 5, stored)
            begin, y_row = pointer(6, 7), pointer(9, 10)
            x_step, depth, first_step, y_step = arguments[2], arguments[3], arguments[8], arguments[11]

            def row(base: Any, step: Any, m: int) -> Any:
                return builder.gep(base, [builder.mul(step, _I64(m))])

            zeros = ir.Constant(vector, [0.0] * LANES)
            sums = [
                [utils.alloca_once_value(builder, zeros if part else load(row(begin, first_step, m))) for part in range(split)]
                for m in range(rows)
            ]
            inputs = [row(x_row, x_step, m) for m in range(rows)]
            multiply_add = _multiply_add(builder, vector)
            ahead = _I64(_AHEAD // (2 if stored is not _F32 else 4))

            def add(k: Any, part: int) -> None:
                ask_for(builder, builder.gep(weights, [builder.add(builder.mul(k, _I64(LANES)), ahead)]))
                column = load(builder.gep(weights, [builder.mul(k, _I64(LANES))]), stored)
                for m in range(rows):
                    number = _spread(builder, builder.load(builder.gep(inputs[m], [k])), LANES)
                    builder.store(multiply_add(number, column, builder.load(sums[m][part])), sums[m][part])

            whole = builder.udiv(depth, _I64(split))
            with utils.for_range(builder, whole) as loop:
                for part in range(split):
                    add(builder.add(builder.mul(loop.index, _I64(split)), _I64(part)), part)
            if split > 1:
                done = builder.mul(whole, _I64(split))
                with utils.for_range(builder, builder.sub(depth, done)) as loop:
                    add(builder.add(loop.index, done), 0)
            for m in range(rows):
                total = builder.load(sums[m][0])
                for part in range(1, split):
                    total = builder.fadd(total, builder.load(sums[m][part]))
                builder.store(total, builder.bitcast(row(y_row, y_step, m), vector.as_pointer())).align = 4
            return context.get_dummy_value()

        size = types.int64
        return types.void(x, size, size, size, panels, size, first, size, size, y, size, size), generate

    return generated(multiply)


def _multiply_add(builder: Any, vector: Any) -> Callable[..., Any]:
    utils: Any = cgutils
    function = utils.get_or_insert_function(builder.module, ir.FunctionType(vector, [vector] * 3), f"llvm.fmuladd.v{vector.count}f32")
    return lambda *factors: builder.call(function, factors)


def _spread(builder: Any, number: Any, lanes: int) -> Any:
    undefined = ir.Constant(ir.VectorType(_F32, lanes), ir.Undefined)
    return builder.shuffle_vector(
        builder.insert_element(undefined, number, _I32(0)), undefined, ir.Constant(ir.VectorType(_I32, lanes), [0] * lanes)
    )


_multiply_1, _multiply_2, _multiply_3 = _multiplying(1, 4), _multiplying(2, 2), _multiplying(3, 2)
_multiply_4, _multiply_5, _multiply_tile = _multiplying(4, 1), _multiplying(5, 1), _multiplying(TILE, 1)


def _element_wise(formula: Callable[..., Any]) -> Callable[..., Any]:
    """A function that writes `formula(builder, v, w, exp, constant)` to `_BLOCK` numbers of memory at y: v is what lies at x, w at z."""

    def apply(_: Any, memory: Any, x: Any, z: Any, y: Any) -> Any:  # noqa: ARG001
        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            width = LANES // 2  # one vector of the processor
            vector, whole = ir.VectorType(_F32, width), ir.VectorType(_I32, width)
            multiply_add = _multiply_add(builder, vector)

            def constant(value: float) -> Any:
                return ir.Constant(vector, [value] * width)

            def exp(v: Any, most: float = 88.0) -> Any:
                """2^n times a polynomial of the rest of v / log 2, which is at most 1/2: off by some 1e-7, or that times v exp(v)."""
                v = _larger(builder, constant(-87.0), v if most < 88.0 else _smaller(builder, constant(88.0), v))
                # So large a sum has no room for a fraction: its last bits are n.
                shifted = multiply_add(v, constant(_LOG2_E), constant(_WHOLE))
                rest = multiply_add(v, constant(_LOG2_E), builder.fsub(constant(_WHOLE), shifted))
                total = constant(_POWERS_OF_2[0])
                for c in _POWERS_OF_2[1:]:
                    total = multiply_add(total, rest, constant(c))
                exponent = builder.shl(builder.bitcast(shifted, whole), ir.Constant(whole, [23] * width))
                return builder.bitcast(builder.add(builder.bitcast(total, whole), exponent), vector)

            def address(at: int, part: int) -> Any:
                data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
                return builder.bitcast(builder.gep(data, [builder.add(arguments[at], _I64(part))]), vector.as_pointer())

            def load(at: int, part: int) -> Any:
                loaded = builder.load(address(at, part))
                loaded.align = 4
                return loaded

            parts = range(0, _BLOCK, width)
            loaded = [(load(1, part), load(2, part)) for part in parts]
            for part, (v, w) in zip(parts, loaded, strict=True):
                builder.store(formula(builder, v, w, exp, constant), address(3, part)).align = 4
            return context.get_dummy_value()

        return types.void(memory, types.int64, types.int64, types.int64), generate

    return generated(apply)


# The processor has one instruction for each of these, which gives the second number if one of both is no number.
def _larger(builder: Any, v: Any, w: Any) -> Any:
    return builder.select(builder.fcmp_ordered(">", v, w), v, w)


def _smaller(builder: Any, v: Any, w: Any) -> Any:
    return builder.select(builder.fcmp_ordered("<", v, w), v, w)


def _elu_of(builder: Any, v: Any, _: Any, exp: Any, constant: Any) -> Any:
    # exp(v) - 1 is never below v.
    return _larger(builder, builder.fsub(exp(_smaller(builder, constant(0.0), v), 0.0), constant(1.0)), v)


def _sum_elu_of(builder: Any, v: Any, w: Any, exp: Any, constant: Any) -> Any:
    return _elu_of(builder, builder.fadd(v, w), None, exp, constant)


def _sigmoid_of(builder: Any, v: Any, _: Any, exp: Any, constant: Any) -> Any:
    return builder.fdiv(constant(1.0), builder.fadd(constant(1.0), exp(builder.fneg(v))))


def _tanh_of(builder: Any, v: Any, _: Any, exp: Any, constant: Any) -> Any:
    grown = exp(builder.fmul(v, constant(2.0)))
    return builder.fsub(constant(1.0), builder.fdiv(constant(2.0), builder.fadd(constant(1.0), grown)))


def _sum_of(builder: Any, v: Any, w: Any, *_: Any) -> Any:
    return builder.fadd(v, w)


def _difference_of(builder: Any, v: Any, w: Any, *_: Any) -> Any:
    return builder.fsub(v, w)


_elu_block, _sigmoid_block, _tanh_block = _element_wise(_elu_of), _element_wise(_sigmoid_of), _element_wise(_tanh_of)
_sum_block, _sum_elu_block, _difference_block = _element_wise(_sum_of), _element_wise(_sum_elu_of), _element_wise(_difference_of)


@generated
def _transpose(_: Any, memory: Any, x: Any, y: Any, rows: Any, depth: Any) -> Any:  # noqa: ARG001
    """Write x [depth, rows] to y [rows, depth]: numba's own loops check each index."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        utils: Any = cgutils
        data = context.make_array(signature.args[0])(context, builder, arguments[0]).data
        x, y, rows, depth = arguments[1:]
        with utils.for_range(builder, rows) as row:
            source = builder.gep(data, [builder.add(x, row.index)])
            target = builder.gep(data, [builder.add(y, builder.mul(row.index, depth))])
            with utils.for_range(builder, depth) as k:
                number = builder.load(builder.gep(source, [builder.mul(k.index, rows)]))
                builder.store(number, builder.gep(target, [k.index]))
        return context.get_dummy_value()

    size = types.int64
    return types.void(memory, size, size, size, size), generate


@compiled()
def _multiply(
    x: Floats, x_at: int, x_step: int, rows: int, depth: int, weights: Weights, panel: int, first: Floats, first_at: int, first_step: int,
    y: Floats, y_at: int, y_step: int,
) -> None:  # fmt: skip
    """Multiply `rows` rows of x, `x_step` apart, by one panel [depth, LANES], and add to what `first` has for each of them."""
    row: Any = np.int64(0)
    while row + TILE <= rows:
        _multiply_tile(x, x_at, x_step, depth, weights, panel, first, first_at, first_step, y, y_at, y_step)
        x_at, first_at, y_at, row = x_at + TILE * x_step, first_at + TILE * first_step, y_at + TILE * y_step, row + TILE
    rest = rows - row
    if rest == 5:
        _multiply_5(x, x_at, x_step, depth, weights, panel, first, first_at, first_step, y, y_at, y_step)
    elif rest == 4:
        _multiply_4(x, x_at, x_step, depth, weights, panel, first, first_at, first_step, y, y_at, y_step)
    elif rest == 3:
        _multiply_3(x, x_at, x_step, depth, weights, panel, first, first_at, first_step, y, y_at, y_step)
    elif rest == 2:
        _multiply_2(x, x_at, x_step, depth, weights, panel, first, first_at, first_step, y, y_at, y_step)
    elif rest == 1:
        _multiply_1(x, x_at, x_step, depth, weights, panel, first, first_at, first_step, y, y_at, y_step)


class Op:
    """The kinds of operations, the first number of each row of a program. Each runs for all streams.

    The other numbers: x, x_step, rows, depth, weights, bias, outputs, y, y_step, first, first_step. A step is the distance of two rows.

    - PRODUCT: `rows` rows of y [outputs] = rows of x [depth] times a matrix, plus a bias, or plus rows of `first` if `bias` is negative.
    - WIDE_PRODUCT: the same with a matrix that is stored in float32.
    - ELU: y = ELU(x). SUM_ELU: y = ELU(x + first). ADD: y = y + x. COPY: y = x. Each of `rows` numbers.
    - DIFFERENCE: y = x minus what lies `depth` numbers behind x, of `rows` numbers.
    - TRANSPOSE: x [depth, rows] to y [rows, depth].
    - CELL: an LSTM's gates x [4, depth] and c at y, to the new c and h, `rows` numbers at `weights`.
    """

    PRODUCT, WIDE_PRODUCT, ELU, SUM_ELU, ADD, DIFFERENCE, COPY, TRANSPOSE, CELL = range(9)


# Compiled code knows numbers of a module, but no classes.
_PRODUCT, _WIDE_PRODUCT, _ELU, _ADD, _DIFFERENCE = Op.PRODUCT, Op.WIDE_PRODUCT, Op.ELU, Op.ADD, Op.DIFFERENCE
_SUM_ELU, _COPY, _TRANSPOSE = Op.SUM_ELU, Op.COPY, Op.TRANSPOSE


@compiled()
def _product(op: Any, streams: int, pitch: int, memory: Floats, weights: Weights, biases: Floats) -> None:
    x, x_step, rows, depth, panels, bias, outputs, y, y_step = op[1], op[2], op[3], op[4], op[5], op[6], op[7], op[8], op[9]
    first, first_step, apart = op[10], op[11], pitch
    if rows == 1:  # the streams are the rows
        rows, streams, x_step, y_step, first_step = streams, rows, pitch, pitch, pitch
    # The last panel comes first: what it writes too much is where the others write afterwards.
    last = (outputs - 1) // LANES
    for panel in range(last, -1, -1):
        for stream in range(streams):
            source, target, place = x + stream * apart, y + stream * apart + panel * LANES, panels + (last - panel) * depth * LANES
            if bias >= 0:
                _multiply(memory, source, x_step, rows, depth, weights, place, biases, bias + panel * LANES, 0, memory, target, y_step)
            else:
                begin = first + stream * apart + panel * LANES
                _multiply(memory, source, x_step, rows, depth, weights, place, memory, begin, first_step, memory, target, y_step)


@compiled()
def _cell(gates: int, gate: int, size: int, c: int, h: int, memory: Floats) -> None:
    # The gates come in torch's order: what to admit, what to keep, the candidate, what to emit.
    admit, keep, candidate, emit = gates, gates + gate, gates + 2 * gate, gates + 3 * gate
    for at in range(0, gate, _BLOCK):
        _sigmoid_block(memory, admit + at, admit + at, admit + at)
        _sigmoid_block(memory, keep + at, keep + at, keep + at)
        _tanh_block(memory, candidate + at, candidate + at, candidate + at)
        _sigmoid_block(memory, emit + at, emit + at, emit + at)
    for k in range(size):
        memory[c + k] = memory[keep + k] * memory[c + k] + memory[admit + k] * memory[candidate + k]
    for at in range(0, size, _BLOCK):
        _tanh_block(memory, c + at, h + at, h + at)
    for k in range(size):
        memory[h + k] *= memory[emit + k]


@compiled()
def run_step(
    program: npt.NDArray[np.int64], streams: int, pitch: int, memory: Floats, weights: Weights, wide: Floats, biases: Floats
) -> None:
    """Run a program, rows of numbers as `Op` says, for `streams` streams, whose memories are `pitch` numbers apart."""
    one: Any = np.int64(1)
    for op in program:
        kind, rows, depth = op[0], op[3], op[4]
        if kind == _PRODUCT:
            _product(op, streams, pitch, memory, weights, biases)
            continue
        if kind == _WIDE_PRODUCT:
            _product(op, streams, pitch, memory, wide, biases)
            continue
        for stream in range(streams):
            x, y = op[1] + stream * pitch, op[8] + stream * pitch
            if kind == _ELU:
                for k in range(0, rows, _BLOCK):
                    _elu_block(memory, x + k, y + k, y + k)
            elif kind == _SUM_ELU:
                z = op[10] + stream * pitch
                for k in range(0, rows, _BLOCK):
                    _sum_elu_block(memory, x + k, z + k, y + k)
            elif kind == _ADD:
                for k in range(0, rows, _BLOCK):
                    _sum_block(memory, x + k, y + k, y + k)
            elif kind == _DIFFERENCE:
                for k in range(0, rows, _BLOCK):
                    _difference_block(memory, x + k, x + depth + k, y + k)
            elif kind == _COPY:
                _transpose(memory, x, y, one, rows)
            elif kind == _TRANSPOSE:
                _transpose(memory, x, y, rows, depth)
            else:
                _cell(x, depth, rows, y, op[5] + stream * pitch, memory)
