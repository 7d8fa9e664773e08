"""What each task of the compiled engine is told: weights, buffers, inputs, outputs, gradients."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from rnncore.engine.packed import Packed
from rnncore.engine.passes import (
    Layers,
    Pass,
    States,
    backward_buffers,
    forward_buffers,
    output_buffer,
)
from rnncore.engine.rows import Rows
from rnncore.engine.sums import Sums

if TYPE_CHECKING:
    from rnncore.engine.compiled import Task, WeightsBack


def begin_layer(
    layers: Layers, run: Pass, packed: Packed, initial: States, number: int
) -> None:
    """Set up the tasks of a layer, with its input, weights and initial states."""
    batch, directions, noise = run.batch, layers[number], run.noise
    tasks, states = [], []
    for d, direction in enumerate(directions):
        index = number * len(directions) + d
        task, h, carried = _prepare(layers, run, number, d)
        if run.h_out is not None and number + 1 == len(layers):
            h = run.h_out
            task.set_states(h)
        task.set_weights(packed.weights[index])
        x = run.inputs[number]
        if x is None:
            task.set_tokens(run.tokens, run.tables[d])
        else:
            task.set_input(x.flat, x.first, x.stride, x.parts, x.part_stride, x.placed)
        batch.begin(h, direction.reverse, initial[0][index])
        task.set_from_zero(initial[0][index] is None)
        if run.plan.recurrent or any(run.plan.zoneout):
            mask = noise.recurrent[index] if noise.recurrent else None
            keys = noise.zoneout[index] if noise.zoneout else None
            task.draw_noise(keys, mask, noise.first_row)
            if mask is not None:
                masked = run.workspace.array(("masked", number, d), h.shape)
                begins = batch.begins(direction.reverse)
                masked[begins] = h[begins] * mask[: batch.running]
        for c, starts in zip(carried, initial[1:], strict=True):
            start = starts[index]
            if run.training:
                batch.begin(c, direction.reverse, start)
            else:
                c[...] = 0
                if start is not None:
                    c[:, : direction.hidden_size] = batch.in_order(start)
        tasks.append(task)
        states.append((h, *carried))
    run.tasks.append(tasks)
    run.states.append(states)


def _prepare(
    layers: Layers, run: Pass, number: int, d: int
) -> tuple[Task, Any, Sequence[np.ndarray]]:
    # The task of one direction, its h and the other states. A dense batch like the one before finds
    # them ready.
    batch, workspace, plan = run.batch, run.workspace, run.plan
    if batch.dense:
        known = workspace.prepared.get((number, d))
        if known is not None and known[0] == plan:
            return known[1:]
    direction = layers[number][d]
    found = {
        name[0]: workspace.array(name, shape)
        for name, shape in forward_buffers(layers, plan, number, d)
    }
    task = direction.kernels.Task(direction.layer)
    h, c = found.get("h"), found.get("c")
    task.set_batch(
        batch.offset, batch.running, plan.training, found["z"], h, c, found["scratch"], plan.chunk
    )
    if batch.order is not None:
        task.set_rank(batch.rank)
    if "between" in found:
        task.set_between(found["between"])
    if "x_rows" in found:
        task.set_x_rows(found["x_rows"])
    if plan.recurrent or any(plan.zoneout):
        now = found.get("h_now"), found.get("c_now")
        task.set_noise(*plan.zoneout, *now, found.get("masked"))
    carried = () if c is None else tuple(c)
    if batch.dense:
        workspace.prepared[number, d] = plan, task, h, carried
    return task, h, carried


def set_output(layers: Layers, run: Pass, number: int, y: np.ndarray | Rows | None) -> Rows:
    """Tell the tasks of a layer where its output goes, the directions side by side; return that."""
    batch, directions, tasks = run.batch, layers[number], run.tasks[number]
    count, hidden, size = len(directions), directions[0].hidden_size, directions[0].state_size
    if isinstance(y, Rows):
        output = y
    elif y is not None:
        output = Rows.of(y, count, not batch.dense)
    else:
        buffer = output_buffer(layers, run.plan, number)
        if buffer is None:
            h = run.states[number][0][0]
            first = batch.running * size
            return Rows(
                h.reshape(-1), batch.rows, first, size, hidden, 1, size, False, batch, run.lease
            )
        flat = run.workspace.array(*buffer).reshape(-1)
        flat.reshape(-1, size)[:, hidden:] = 0
        output = Rows(
            flat, batch.rows, 0, count * size, hidden, count, size, False, batch, run.lease
        )
    for d, task in enumerate(tasks):
        first = d * output.part_stride
        task.set_output(output.flat, first, output.stride, output.placed, y is not None)
    return output


def set_dx(
    run: Pass, task: Task, x: Rows, dx: np.ndarray | Rows | None, number: int, d: int
) -> np.ndarray:
    """Tell a task where the gradient of its input goes, rows or `dx` of the caller; return that."""
    batch, array, width = run.batch, run.workspace.array, x.stride
    if dx is None or batch.dense or isinstance(dx, Rows):
        shape = (batch.rows, width)
        if dx is None or d:
            out = array(("dx", number, d), shape)
        else:
            out = dx.padded() if isinstance(dx, Rows) else dx.reshape(shape)
        task.set_dx(out.reshape(-1), width)
        return out
    # Both directions write all steps that have rows.
    shape = (batch.longest * batch.batch, width)
    out = array(("dx", number, d), shape) if d else dx[: batch.longest].reshape(shape)
    dx_rows = array(("dx_rows", d), (run.plan.chunk_rows * width,))
    task.set_dx(out.reshape(-1), width, dx_rows, leaves=len(run.tasks[0]) == 1)
    return out


def set_gradients(
    layers: Layers, run: Pass, weights: WeightsBack, sums: Sums, dy: Rows | None, dfinal: States,
    number: int, d: int, state_gradient: bool,
) -> tuple[np.ndarray, ...]:  # fmt: skip
    """Give a task its gradient buffers; return those of the states, which become dL/dh_0 and so on.

    Not quite so where nobody wants the `state_gradient`.
    """
    directions, task = layers[number], run.tasks[number][d]
    direction, index = directions[d], number * len(directions) + d
    batch, workspace = run.batch, run.workspace
    known = workspace.prepared.get(("back", number, d)) if batch.dense else None
    if known is None or known[0] is not task:
        known = task, _prepare_back(layers, run, task, number, d)
        if batch.dense:
            workspace.prepared["back", number, d] = known
    dstates: tuple[np.ndarray, ...] = known[1]
    for buffer, finals in zip(dstates, dfinal, strict=True):
        given = finals[index]
        buffer[...] = 0
        if given is not None:
            buffer[:, : direction.hidden_size] = batch.in_order(given)
    task.set_weights_back(weights)
    first = stride = 0
    flat, placed, dy_rows = None, False, None
    if dy is not None:
        flat, first, stride = dy.flat, dy.first + d * dy.part_stride, dy.stride
        placed = dy.placed
        if dy.placed or dy.part_stride < direction.state_size:
            size = run.plan.chunk_rows * direction.state_size
            dy_rows = workspace.array(("dy_rows", d), (size,))
    task.set_gradients(
        flat, first, stride, placed, dy_rows, *sums.of(number, d), sums.adds,
        not state_gradient,
    )  # fmt: skip
    return dstates


def _prepare_back(
    layers: Layers, run: Pass, task: Task, number: int, d: int
) -> tuple[np.ndarray, ...]:
    # The buffers of a backward pass, which serve the task for all batches like this one.
    found = {
        name[0]: run.workspace.array(name, shape)
        for name, shape in backward_buffers(layers, run.plan, number, d)
    }
    dh, dc = found["dh"], found.get("dc")
    task.set_batch_back(dh, dc, found["dz_columns"], found["x_panels"], found["h_panels"])
    task.set_noise_back(found.get("h_aside"), found.get("c_aside"))
    task.set_between_back(found.get("dbetween"))
    return (dh,) if dc is None else (dh, *dc)


def forget(run: Pass, keep_input: bool) -> None:
    """Have tasks, which live on in the workspace, let go of what is not the engine's.

    And of the input, once no pass will read it any more.
    """
    for tasks in run.tasks:
        for task in tasks:
            task.forget(keep_input)
