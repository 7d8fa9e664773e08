"""What the engine does with a batch, in words."""

from __future__ import annotations

from typing import TYPE_CHECKING

from rnncore import engine
from rnncore.layers.stack import Direction, bytes_kept, use_wavefront

if TYPE_CHECKING:
    from rnncore.layers.recurrent import Recurrent


def explain(
    layer: Recurrent, layers: list[list[Direction]], steps: int, batch: int, training: bool
) -> str:
    """Say what runs for a dense batch, and why; see `Recurrent.explain`."""
    first = layers[0][0]
    threads = engine.get_num_threads()
    build, reason = engine.chosen_build()
    sizes = " -> ".join(str(directions[0].hidden_size) for directions in layers)
    both = ", bidirectional" if layer.bidirectional else ""
    what = "training" if training else "inference"
    wavefront = use_wavefront(layers, batch, bool(training and layer.dropout), threads)
    lines = [
        f"{layer.layer_name} {layer.input_size} -> {sizes}{both}, {layer.dtype}, {what} of "
        f"T = {steps}, B = {batch}",
        f"build      {build} ({reason}): vectors of {first.kernels.lanes}, tiles of "
        f"{first.kernels.tile_rows} rows by up to {first.kernels.panel} columns",
    ]
    for number, directions in enumerate(layers):
        direction = directions[0]
        plan = direction.kernels.plan(direction.blank, steps, batch, False, threads)
        rows, chunk = steps * batch, min(steps, plan["chunk"])
        product = "GEMM" if chunk * batch > 1 else "matvec"
        height = direction.gates * direction.hidden_size
        lines += [
            f"layer {number}    input: {product}, {rows} rows by {direction.input_size} x {height},"
            f" {chunk} steps at a time; token ids: a gather from a table instead",
            f"           recurrence: {'GEMM' if batch > 1 else 'matvec'}, {steps} times "
            f"{batch} x {direction.hidden_size} x {height}; "
            + _sharing(plan, len(directions), threads, wavefront),
        ]
    # Weights for the forward and the backward pass take turns in the same place.
    packed = 0
    for direction in (d for directions in layers for d in directions):
        columns = direction.input_size + direction.hidden_size
        if training:
            columns = sum(
                _padded(size, direction) for size in (direction.input_size, direction.hidden_size)
            )
        packed += direction.table_size * (columns + 1)
    if training:
        kept = bytes_kept(layers, steps, batch, False)
    else:
        kept = layer.dtype.itemsize * sum(
            (steps + 1) * batch * d.state_size
            + batch * d.state_size * d.has_c
            + d.z_size * d.kernels.forward_sizes(d.blank, steps, batch, threads)["rows"]
            for directions in layers
            for d in directions
        )
    lines.append(f"packed     {packed * layer.dtype.itemsize:,} bytes of weights")
    lines.append(f"workspace  {kept:,} bytes")
    return "\n".join(lines)


def _padded(size: int, direction: Direction) -> int:
    lanes = direction.kernels.lanes
    return -(-size // lanes) * lanes


def _sharing(plan: dict[str, int], directions: int, threads: int, wavefront: bool) -> str:
    if threads == 1:
        return "one thread, as set"
    if wavefront:
        return "the layers run side by side, each a chunk of steps behind the one below"
    if directions == 2 and not plan["splits_weights"]:
        return f"the two directions run side by side on {threads} threads"
    if plan["row_threads"] > 1:
        return f"{plan['row_threads']} threads share the sequences, {plan['tiles']} tiles in all"
    if plan["unit_threads"] > 1:
        return f"{plan['unit_threads']} threads share the hidden units, with a barrier a step"
    return "one thread: a step is too short to be shared"
