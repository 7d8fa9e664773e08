"""What the engine does with a batch, in words."""

from __future__ import annotations

from collections.abc import Sequence

from rnncore.engine import chosen_build
from rnncore.engine.direction import Direction
from rnncore.engine.passes import Plan, all_buffers, count_bytes, stands_alone
from rnncore.engine.stack import Stack
from rnncore.engine.threads import explain_threads, team_size


def explain(name: str, stack: Stack, steps: int, batch: int, training: bool, dropout: bool) -> str:
    """Say what runs for a dense batch, and why; see `Recurrent.explain`."""
    threads, (build, reason) = team_size(), chosen_build()
    layers, kernels, rows = stack.layers, stack.kernels, steps * batch
    sizes = " -> ".join(str(directions[0].hidden_size) for directions in layers)
    both = ", bidirectional" if len(layers[0]) == 2 else ", reverse" * layers[0][0].reverse
    what = "training" if training else "inference"
    wavefront = stack.use_wavefront(batch, training and dropout, threads)
    parts = [part.layer for directions in layers for part in directions]
    heights = " or ".join(dict.fromkeys(str(part.tile_rows) for part in parts))
    lines = [
        f"{name} {stack.input_size} -> {sizes}{both}, {stack.dtype}, {what} of "
        f"T = {steps}, B = {batch}",
        f"build      {build} ({reason}): vectors of {kernels.lanes}, tiles of "
        f"{heights} rows by up to {kernels.panel} columns",
        f"threads    {explain_threads(kernels)}",
    ]
    if stack.storage != stack.dtype:
        ways = ", ".join(dict.fromkeys(part.product for part in parts))
        lines.append(f"products   {stack.storage}, by {ways}")
    for number, directions in enumerate(layers):
        direction = directions[0]
        shares = direction.layer.plan(steps, batch, False, threads)
        chunk = min(steps, shares["chunk"])
        product = "GEMM" if chunk * batch > 1 else "matvec"
        height = direction.gates * direction.hidden_size
        lines += [
            f"layer {number}    input: {product}, {rows} rows by {direction.input_size} x {height},"
            f" {chunk} steps at a time; token ids: a gather from a table instead",
            f"           recurrence: {_recurrence(direction, batch, steps)}; "
            + _sharing(shares, directions, threads, wavefront),
        ]
    # Weights for the forward and the backward pass take turns in the same memory.
    packed = stack.packing().bytes
    if training:
        packed = max(packed, stack.packing_back().bytes)
    unpadded = stands_alone(layers[-1]) and stack.output_stride == stack.output_size
    plan = Plan(
        rows, batch if steps else 0, steps, kernels.backward_chunk(steps, rows), training,
        wavefront, threads, stack.input_size, batch % threads > 0, not training and unpadded,
        training and dropout, training and stack.recurrent_dropout, stack.zoneout,
    )  # fmt: skip
    lines.append(f"packed     {packed:,} bytes of weights")
    lines.append(f"workspace  {count_bytes(all_buffers(layers, plan), stack.dtype):,} bytes")
    return "\n".join(lines)


def _recurrence(direction: Direction, batch: int, steps: int) -> str:
    if direction.cell.elementwise:
        return f"{direction.cell.name}, {steps} times {batch} x {direction.hidden_size}, no product"
    product, height = "GEMM" if batch > 1 else "matvec", direction.gates * direction.hidden_size
    turns = ", in two products, one after the other" if direction.cell.phases > 1 else ""
    return f"{product}, {steps} times {batch} x {direction.hidden_size} x {height}{turns}"


def _sharing(
    plan: dict[str, int], directions: Sequence[Direction], threads: int, wavefront: bool
) -> str:
    if threads == 1:
        return "one thread, as set"
    if wavefront:
        return "the layers run side by side, each a chunk of steps behind the one below"
    if len(directions) == 2 and not plan["splits_weights"]:
        return f"the two directions run side by side on {threads} threads"
    if plan["row_threads"] > 1:
        return f"{plan['row_threads']} threads share the sequences, {plan['tiles']} tiles in all"
    if plan["unit_threads"] > 1:
        barriers = "a barrier" if directions[0].cell.phases == 1 else "two barriers"
        return f"{plan['unit_threads']} threads share the hidden units, with {barriers} a step"
    return "one thread: a step is too short to be shared"
