"""Control flow, sequences and optional values: graphs inside, lists of tensors, and None."""

from __future__ import annotations

from typing import Any

import corelib as cl
from corelib.errors import ArgumentError

from ..table import Int, Ints, Number, operator
from ..values import HOST

# -- control flow --------------------------------------------------------------------------------------------


@operator("If")
def branch(condition: Number, *, then_branch, else_branch, call):
    return tuple(call.run(then_branch if condition else else_branch))


@operator("Loop")
def loop(*inputs: Any, body, call):
    """The body again and again: it is given the turn, the condition and the state, and returns the condition, the
    state, and what is collected from each turn.
    """
    turns = None if not inputs or inputs[0] is None else int(cl.reshape(inputs[0], ()).item())
    condition = True if len(inputs) < 2 or inputs[1] is None else bool(cl.reshape(inputs[1], ()).item())
    state = list(inputs[2:])
    kept = len(state)
    collected: list[list[Any]] = [[] for _ in body.outputs[1 + kept :]]
    turn = 0
    while condition and (turns is None or turn < turns):
        here = [cl.asarray(turn, dtype=cl.int64, device=HOST), cl.asarray(condition, device=HOST)]
        flag, *results = call.run(body, *here, *state)
        condition = bool(cl.reshape(flag, ()).item())
        state = results[:kept]
        for column, x in zip(collected, results[kept:], strict=True):
            column.append(x)
        turn += 1
    if turn == 0 and collected:
        raise ArgumentError("Loop: without a turn, the shape of what it collects is not known")
    return (*state, *(cl.stack(column) for column in collected))


@operator("Scan", since=9)
def scan(
    *inputs: Any, body, num_scan_inputs, scan_input_axes=None, scan_output_axes=None, scan_input_directions=None,
    scan_output_directions=None, call,
):  # fmt: skip
    """The body for each slice of the scanned inputs: it is given the state and the slices, and returns the state and
    slices of what is stacked.
    """
    state, scanned = list(inputs[: len(inputs) - num_scan_inputs]), inputs[len(inputs) - num_scan_inputs :]
    axes = scan_input_axes or [0] * num_scan_inputs
    backward = scan_input_directions or [0] * num_scan_inputs
    slices = [
        list(cl.unstack(x, axis=axis))[:: -1 if back else 1]
        for x, axis, back in zip(scanned, axes, backward, strict=True)
    ]
    kept = len(state)
    stacked: list[list[Any]] = [[] for _ in body.outputs[kept:]]
    for turn in zip(*slices, strict=True):
        results = call.run(body, *state, *turn)
        state = results[:kept]
        for column, x in zip(stacked, results[kept:], strict=True):
            column.append(x)
    out_axes = scan_output_axes or [0] * len(stacked)
    out_backward = scan_output_directions or [0] * len(stacked)
    return (
        *state,
        *(
            cl.stack(column[:: -1 if back else 1], axis=axis)
            for column, axis, back in zip(stacked, out_axes, out_backward, strict=True)
        ),
    )


@operator("Scan", since=8)
def scan_batches(lengths=None, *inputs: Any, body, num_scan_inputs, directions=None, call):
    """In opset 8 the first axis is the batch and the second one is scanned."""
    if lengths is not None:
        raise ArgumentError("Scan: lengths of sequences, which only opset 8 has, are not supported")
    options = {
        "body": body,
        "num_scan_inputs": num_scan_inputs,
        "scan_input_directions": directions,
        "call": call,
    }
    batches = [scan(*(x[i] for x in inputs), **options) for i in range(inputs[0].shape[0])]
    return tuple(cl.stack(list(column)) for column in zip(*batches, strict=True))


# -- sequences -----------------------------------------------------------------------------------------------


@operator("SequenceConstruct")
def sequence(*inputs: Any) -> list[Any]:
    return list(inputs)


@operator("SequenceEmpty")
def empty_sequence(*, dtype=None):
    return []


@operator("SequenceLength")
def sequence_length(items):
    return cl.asarray(len(items), dtype=cl.int64, device=HOST)


@operator("SequenceAt")
def sequence_at(items, position: Int):
    return items[_checked("SequenceAt", position, len(items))]


@operator("SequenceInsert")
def sequence_insert(items, x, position: Int = None):
    at = len(items) if position is None else _checked("SequenceInsert", position, len(items) + 1, len(items))
    return [*items[:at], x, *items[at:]]


@operator("SequenceErase")
def sequence_erase(items, position: Int = None):
    at = _checked("SequenceErase", -1 if position is None else position, len(items))
    return [*items[:at], *items[at + 1 :]]


def _checked(name: str, position: int, count: int, length: int | None = None) -> int:
    """A position in a sequence, counted from the end where it is negative."""
    at = position + (count if length is None else length) if position < 0 else position
    if not 0 <= at < count:
        raise ArgumentError(f"{name}: position {position} is out of range for {length or count} items")
    return at


@operator("ConcatFromSequence")
def concat_sequence(items, *, axis, new_axis=0):
    return cl.stack(items, axis=axis) if new_axis else cl.concat(items, axis=axis)


@operator("SplitToSequence")
def split_to_sequence(x, split: Ints = None, *, axis=0, keepdims=1):
    """Into slices of the sizes ``split`` (one number: all of that size); without it, of size 1, or without the axis."""
    if split is None:
        parts = list(cl.unstack(x, axis=axis))
        return [cl.expand_dims(part, axis) for part in parts] if keepdims else parts
    length = x.shape[axis]
    sizes = split if len(split) > 1 else [split[0]] * -(-length // split[0])
    ends = [sum(sizes[: i + 1]) for i in range(len(sizes) - 1)]
    return list(cl.split(x, ends, axis=axis))


@operator("SequenceMap")
def sequence_map(*inputs: Any, body, call):
    """The body for each item of the first sequence, and the items of other sequences beside it."""
    count = len(inputs[0])
    turns = [[x[i] if isinstance(x, list) else x for x in inputs] for i in range(count)]
    results = [call.run(body, *turn) for turn in turns]
    return tuple([result[i] for result in results] for i in range(len(body.outputs)))


# -- optional values -----------------------------------------------------------------------------------------


@operator("Optional")
def optional(x=None, *, type=None):
    return x


@operator("OptionalHasElement")
def has_element(x=None):
    return cl.asarray(x is not None, device=HOST)


@operator("OptionalGetElement")
def get_element(x):
    if x is None:
        raise ArgumentError("OptionalGetElement: the optional value is empty")
    return x
