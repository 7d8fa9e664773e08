"""Who is timed: rnncore, NumPy and the peers, each in its best form.

A contestant has one method a job, which takes `Data` and returns a `Side`, or None where it cannot
do the case; a job it has no method for it does not do. Peers are imported when they are made.
"""

from __future__ import annotations

from functools import cached_property, partial
from typing import Any

import numpy as np
from workloads import CHARACTERS, CLIP_NORM, LEARNING_RATE, Array, Data, Side

import rnncore
from rnncore import reference


class Rnncore:
    name = "rnncore"

    def __init__(self, threads: int) -> None:
        rnncore.set_num_threads(threads)
        self.version = rnncore.__version__

    def step(self, data: Data) -> Side:
        stream = data.make_layer().stream()
        x = data.x[0, 0]

        def results() -> dict[str, Array]:
            stream.reset()
            return {"y": np.stack([stream.step(row) for row in data.step_inputs])}

        return Side(results, partial(stream.step, x))

    def inference(self, data: Data) -> Side:
        run = partial(data.make_layer(), data.x)
        return Side(lambda: {"y": run()[0]}, run)

    def training(self, data: Data) -> Side:
        layer = data.make_layer()

        def run() -> tuple[Array, Array]:
            layer.weights_changed()  # as after a step of an optimizer
            y, _ = layer.forward(data.x, lengths=data.lengths)
            dx, _ = layer.backward(data.dy, accumulate=False)
            return y, dx

        def results() -> dict[str, Array]:
            y, dx = run()
            return {"y": y, "dx": dx, **layer.grads}

        return Side(results, run)

    def text(self, data: Data) -> Side:
        model = data.make_model()
        optimizer = rnncore.Adam(model, lr=LEARNING_RATE)
        tokens, targets = data.tokens[:-1], data.tokens[1:]

        def run() -> float:
            loss, _ = model.forward(tokens, targets)
            model.backward(accumulate=False)
            rnncore.clip_grad_norm(model, CLIP_NORM)
            optimizer.step()
            return loss

        return Side(lambda: {"loss": np.array(run()), **model.grads}, run)

    def product(self, data: Data) -> Side:
        run = partial(data.make_linear(), data.x)
        return Side(lambda: {"y": run()}, run)


class NumPy:
    name = "NumPy"

    def __init__(self, threads: int) -> None:
        self.version = np.__version__

    def step(self, data: Data) -> Side:
        [[parameters]] = reference.layers_from_state_dict(data.case.kind, data.state_dict)
        forward = reference.CELLS[data.case.kind].forward
        count = reference.CELLS[data.case.kind].state_arrays
        zero = [np.zeros((1, data.case.H), np.float32)] * count
        state = zero

        def step(x: Array) -> Array:
            nonlocal state
            (y, *state), _ = forward(x, *state, **parameters)
            return y

        def results() -> dict[str, Array]:
            nonlocal state
            state = zero
            return {"y": np.stack([step(x[None, None])[0, 0] for x in data.step_inputs])}

        return Side(results, partial(step, data.x))

    def inference(self, data: Data) -> Side:
        layers = reference.layers_from_state_dict(data.case.kind, data.state_dict)
        run = partial(reference.forward, data.case.kind, data.x, layers)
        return Side(lambda: {"y": run()[0][0]}, run)

    def training(self, data: Data) -> Side:
        layers = reference.layers_from_state_dict(data.case.kind, data.state_dict)

        def run() -> tuple[Array, Array, Any]:
            (y, _), saved = reference.forward(data.case.kind, data.x, layers, None, data.lengths)
            dx, _, dlayers = reference.backward(data.dy, None, saved)
            return y, dx, dlayers

        def results() -> dict[str, Array]:
            y, dx, dlayers = run()
            return {"y": y, "dx": dx, **reference.gradients_by_name(dlayers)}

        return Side(results, run)

    def text(self, data: Data) -> Side:
        parameters = {n: a.copy() for n, a in data.state_dict.items() if "bias_hh" not in n}
        moments = {n: np.zeros((2, *a.shape), np.float32) for n, a in parameters.items()}
        tokens, targets = data.tokens[:-1], data.tokens[1:]
        steps = 0

        def run() -> tuple[float, dict[str, Array]]:
            nonlocal steps
            steps += 1
            layers = reference.layers_from_state_dict(
                "lstm", {name.removeprefix("rnn."): array for name, array in parameters.items()}
            )
            x, saved_x = reference.embedding_forward(tokens, parameters["embedding.weight"])
            (h, _), saved_h = reference.forward("lstm", x, layers)
            logits, saved_y = reference.linear_forward(
                h, parameters["head.weight"], parameters["head.bias"]
            )
            loss, dlogits = reference.softmax_cross_entropy(logits, targets)

            dh, dW, db = reference.linear_backward(dlogits, saved_y)
            dx, _, dlayers = reference.backward(dh, None, saved_h)
            by_name = reference.gradients_by_name(dlayers)
            gradients = {f"rnn.{name}": gradient for name, gradient in by_name.items()}
            gradients |= {"head.weight": dW, "head.bias": db}
            gradients["embedding.weight"] = reference.embedding_backward(dx, saved_x)

            norm = sum(float(np.vdot(gradients[n], gradients[n])) for n in parameters) ** 0.5
            for name, array in parameters.items():
                g, (m, v) = gradients[name], moments[name]
                g *= min(1.0, CLIP_NORM / (norm + 1e-6))
                m += 0.1 * (g - m)
                v += 0.001 * (g * g - v)
                mean, square = m / (1 - 0.9**steps), v / (1 - 0.999**steps)
                array -= LEARNING_RATE * mean / (np.sqrt(square) + 1e-8)
            return loss, gradients

        def results() -> dict[str, Array]:
            loss, gradients = run()
            return {"loss": np.array(loss), **gradients}

        return Side(results, run)

    def product(self, data: Data) -> Side:
        x, W, b = data.x, data.state_dict["weight"], data.state_dict["bias"]

        def run() -> Array:
            y = np.matmul(x, W.T)
            y += b  # in place: up to a third less time than another array takes
            return y

        return Side(lambda: {"y": run()}, run)


class PyTorch:
    name = "PyTorch"

    def __init__(self, threads: int) -> None:
        import torch

        self.torch, self.version = torch, torch.__version__
        torch.set_num_threads(threads)

    def layer(self, data: Data) -> Any:
        c, nn = data.case, self.torch.nn
        kind = {"lstm": nn.LSTM, "gru": nn.GRU, "rnn_tanh": nn.RNN}[c.kind]
        module = kind(c.I, c.H, num_layers=c.layers, bidirectional=c.bidirectional)
        return self.load(module, data)

    def load(self, module: Any, data: Data) -> Any:
        tensors = {name: self.torch.from_numpy(a) for name, a in data.state_dict.items()}
        module.load_state_dict(tensors)
        return module

    def step(self, data: Data) -> Side:
        # The cell's function: a quarter of the time of nn.LSTM over one step, and less than
        # nn.LSTMCell; torch.compile of it takes longer.
        torch, c = self.torch, data.case
        cell = getattr(torch, f"{c.kind}_cell")
        weights = [torch.from_numpy(array) for array in data.state_dict.values()]
        zero = torch.zeros(1, c.H)
        fresh: Any = (zero, zero) if c.kind == "lstm" else zero
        state = fresh

        def step(x: Any) -> Any:
            nonlocal state
            state = cell(x, state, *weights)
            return state

        def results() -> dict[str, Array]:
            nonlocal state
            state = fresh
            with torch.inference_mode():
                hs = [step(x[None]) for x in torch.from_numpy(data.step_inputs)]
            return {"y": torch.cat([h[0] if c.kind == "lstm" else h for h in hs]).numpy()}

        return Side(results, partial(step, torch.from_numpy(data.x[0])), torch.inference_mode)

    def inference(self, data: Data) -> Side:
        torch, layer = self.torch, self.layer(data).eval()
        run = partial(layer, torch.from_numpy(data.x))

        def results() -> dict[str, Array]:
            with torch.inference_mode():
                return {"y": run()[0].numpy()}

        return Side(results, run, torch.inference_mode)

    def training(self, data: Data) -> Side:
        torch, layer, rnn = self.torch, self.layer(data), self.torch.nn.utils.rnn
        x = torch.from_numpy(data.x).requires_grad_()
        dy = torch.from_numpy(data.dy)
        lengths = None if data.lengths is None else torch.from_numpy(data.lengths)

        def run() -> Any:
            layer.zero_grad()
            x.grad = None
            if lengths is None:
                y, _ = layer(x)
            else:
                packed = rnn.pack_padded_sequence(x, lengths, enforce_sorted=False)
                y, _ = rnn.pad_packed_sequence(layer(packed)[0], total_length=len(x))
            y.backward(dy)
            return y

        def results() -> dict[str, Array]:
            y = run()
            gradients = {name: p.grad.numpy() for name, p in layer.named_parameters()}
            return {"y": y.detach().numpy(), "dx": x.grad.numpy(), **gradients}

        return Side(results, run)

    def text(self, data: Data) -> Side:
        torch, nn, c = self.torch, self.torch.nn, data.case
        model = nn.ModuleDict(
            {
                "embedding": nn.Embedding(CHARACTERS, c.I),
                "rnn": nn.LSTM(c.I, c.H, num_layers=c.layers),
                "head": nn.Linear(c.H, CHARACTERS),
            }
        )
        self.load(model, data)
        optimizer = torch.optim.Adam(model.parameters(), lr=LEARNING_RATE, fused=True)
        tokens, targets = torch.from_numpy(data.tokens[:-1]), torch.from_numpy(data.tokens[1:])

        def run() -> float:
            optimizer.zero_grad()
            y, _ = model["rnn"](model["embedding"](tokens))
            logits = model["head"](y).flatten(0, 1)
            loss = nn.functional.cross_entropy(logits, targets.flatten())
            loss.backward()
            nn.utils.clip_grad_norm_(model.parameters(), CLIP_NORM)
            optimizer.step()
            return loss.item()

        def results() -> dict[str, Array]:
            loss = np.array(run())
            return {"loss": loss, **{n: p.grad.numpy() for n, p in model.named_parameters()}}

        return Side(results, run)

    def product(self, data: Data) -> Side:
        torch = self.torch
        parameters = (torch.from_numpy(data.state_dict[name]) for name in ("weight", "bias"))
        run = partial(torch.nn.functional.linear, torch.from_numpy(data.x), *parameters)
        return Side(lambda: {"y": run().numpy()}, run, torch.inference_mode)


class OnnxModels:
    """Inference as an ONNX model, which two of the peers run."""

    def model(self, data: Data) -> bytes:
        from onnx import TensorProto, helper, numpy_helper

        c, D, weights = data.case, data.case.directions, data.state_dict
        # rows of gates: ONNX has i, o, f, c and z, r, h
        order = {"lstm": [0, 3, 1, 2], "gru": [1, 0, 2], "rnn_tanh": [0]}[c.kind]
        states = "hc" if c.kind == "lstm" else "h"
        nodes, constants = [], []

        def constant(name: str, array: Array) -> str:
            constants.append(numpy_helper.from_array(array, name))
            return name

        def gates(name: str) -> Array:
            return np.concatenate([np.split(weights[name], c.gates)[k] for k in order])

        x = "x"
        for layer in range(c.layers):
            ends = [f"l{layer}", f"l{layer}_reverse"][:D]
            W, R = (np.stack([gates(f"weight_{k}_{e}") for e in ends]) for k in ("ih", "hh"))
            B = np.stack([np.concatenate([gates(f"bias_{k}_{e}") for k in ("ih", "hh")])
                          for e in ends])  # fmt: skip
            inputs = [x, constant(f"W{layer}", W), constant(f"R{layer}", R),
                      constant(f"B{layer}", B)]  # fmt: skip
            if data.workload.job == "step":
                inputs += ["", *(f"{s}_in" for s in states)]
            options: dict[str, Any] = {"linear_before_reset": 1} if c.kind == "gru" else {}
            nodes.append(
                helper.make_node(
                    c.kind.removesuffix("_tanh").upper(), inputs,
                    [f"Y{layer}", *(f"{s}{layer}" for s in states)], hidden_size=c.H,
                    direction="bidirectional" if D == 2 else "forward", **options,
                )
            )  # fmt: skip
            x = f"x{layer + 1}"  # (T, D, B, H) to (T, B, D*H)
            shape = constant(f"shape{layer}", np.array([c.T, c.B, D * c.H]))
            nodes.append(helper.make_node("Transpose", [f"Y{layer}"], [f"t{layer}"],
                                          perm=[0, 2, 1, 3]))  # fmt: skip
            nodes.append(helper.make_node("Reshape", [f"t{layer}", shape], [x]))

        def value(name: str, *shape: int) -> Any:
            return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

        given = [value("x", c.T, c.B, c.I)]
        wanted = [value(x, c.T, c.B, D * c.H)]
        if data.workload.job == "step":
            given += [value(f"{s}_in", 1, 1, c.H) for s in states]
            wanted = [value(f"{s}0", 1, 1, c.H) for s in states]
            nodes = nodes[:1]
        graph = helper.make_graph(nodes, "layer", given, wanted, constants)
        operators = [helper.make_opsetid("", 14)]
        return helper.make_model(graph, opset_imports=operators, ir_version=8).SerializeToString()


class OnnxRuntime(OnnxModels):
    name = "ONNX Runtime"

    def __init__(self, threads: int) -> None:
        import onnx  # noqa: F401
        import onnxruntime

        self.runtime, self.version = onnxruntime, onnxruntime.__version__
        self.options = onnxruntime.SessionOptions()
        self.options.intra_op_num_threads = threads
        self.options.inter_op_num_threads = 1
        self.options.log_severity_level = 3

    def session(self, data: Data) -> Any:
        return self.runtime.InferenceSession(
            self.model(data), self.options, providers=["CPUExecutionProvider"]
        )

    def step(self, data: Data) -> Side:
        # Bound to buffers: two sets of states that take turns as input and output, half the time
        # of session.run.
        session, value = self.session(data), self.runtime.OrtValue.ortvalue_from_numpy
        names = [node.name for node in session.get_outputs()]
        arrays = np.zeros((2, len(names), 1, 1, data.case.H), np.float32)
        states = [[value(array) for array in pair] for pair in arrays]
        x = data.x.copy()  # shared with the session
        x_value = value(x)
        bindings = []
        for k in range(2):
            binding = session.io_binding()
            binding.bind_ortvalue_input("x", x_value)
            for name, old, new in zip(names, states[k], states[1 - k], strict=True):
                binding.bind_ortvalue_input(f"{name[0]}_in", old)
                binding.bind_ortvalue_output(name, new)
            bindings.append(binding)
        turn = 0

        def step() -> None:
            nonlocal turn
            session.run_with_iobinding(bindings[turn])
            turn = 1 - turn

        def results() -> dict[str, Array]:
            arrays[...] = 0
            y = []
            for row in data.step_inputs:
                x[...] = row
                step()
                y.append(states[turn][0].numpy().ravel().copy())
            return {"y": np.stack(y)}

        return Side(results, step)

    def inference(self, data: Data) -> Side:
        run = partial(self.session(data).run, None, {"x": data.x})
        return Side(lambda: {"y": run()[0]}, run)


class OpenVINO(OnnxModels):
    name = "OpenVINO"

    def __init__(self, threads: int) -> None:
        import onnx  # noqa: F401
        import openvino

        self.openvino, self.version = openvino, openvino.__version__.split("-")[0]
        self.core = openvino.Core()
        self.options = {
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": "f32",
        }

    def compiled(self, data: Data) -> Any:
        return self.core.compile_model(self.core.read_model(self.model(data)), "CPU", self.options)

    def step(self, data: Data) -> Side:
        # Two requests whose states take turns as input and output.
        compiled, tensor = self.compiled(data), self.openvino.Tensor
        arrays = np.zeros((2, len(compiled.outputs), 1, 1, data.case.H), np.float32)
        states = [[tensor(array, shared_memory=True) for array in pair] for pair in arrays]
        x = data.x.copy()
        requests = []
        for k in range(2):
            request = compiled.create_infer_request()
            request.set_input_tensor(0, tensor(x, shared_memory=True))
            for j, (old, new) in enumerate(zip(states[k], states[1 - k], strict=True)):
                request.set_input_tensor(j + 1, old)
                request.set_output_tensor(j, new)
            requests.append(request)
        turn = 0

        def step() -> None:
            nonlocal turn
            requests[turn].infer()
            turn = 1 - turn

        def results() -> dict[str, Array]:
            arrays[...] = 0
            y = []
            for row in data.step_inputs:
                x[...] = row
                step()
                y.append(arrays[turn][0].ravel().copy())
            return {"y": np.stack(y)}

        return Side(results, step)

    def inference(self, data: Data) -> Side:
        request = self.compiled(data).create_infer_request()
        request.set_input_tensor(0, self.openvino.Tensor(data.x, shared_memory=True))

        def results() -> dict[str, Array]:
            request.infer()
            return {"y": request.get_output_tensor(0).data.copy()}

        return Side(results, request.infer)


class Jax:
    name = "JAX"

    def __init__(self, threads: int) -> None:
        import jax

        jax.config.update("jax_platforms", "cpu")
        self.jax, self.version = jax, jax.__version__

    @cached_property
    def cells(self) -> dict[str, Any]:
        jnp, sigmoid = self.jax.numpy, self.jax.nn.sigmoid

        # a = W_hx x + b_ih, projected for all steps at once; u = W_hh h + b_hh
        def lstm(state: Any, a: Any, u: Any) -> Any:
            i, f, g, o = jnp.split(a + u, 4, axis=-1)
            c = sigmoid(f) * state[1] + sigmoid(i) * jnp.tanh(g)
            return sigmoid(o) * jnp.tanh(c), c

        def gru(state: Any, a: Any, u: Any) -> Any:
            (a_r, a_z, a_n), (u_r, u_z, u_n) = (jnp.split(q, 3, axis=-1) for q in (a, u))
            z, n = sigmoid(a_z + u_z), jnp.tanh(a_n + sigmoid(a_r + u_r) * u_n)
            return ((1 - z) * n + z * state[0],)

        def rnn(state: Any, a: Any, u: Any) -> Any:
            return (jnp.tanh(a + u),)

        return {"lstm": lstm, "gru": gru, "rnn_tanh": rnn}

    def zeros(self, data: Data) -> Any:
        c = data.case
        return (self.jax.numpy.zeros((c.B, c.H)),) * (2 if c.kind == "lstm" else 1)

    def forward(self, data: Data, weights: Any, x: Any) -> Any:
        jax, jnp, c, cell = self.jax, self.jax.numpy, data.case, self.cells[data.case.kind]
        for layer in range(c.layers):
            outputs = []
            for reverse in range(c.directions):
                W_hx, W_hh, b_ih, b_hh = weights[layer * c.directions + reverse]

                def step(state: Any, a: Any, W_hh: Any = W_hh, b_hh: Any = b_hh) -> Any:
                    state = cell(state, a, state[0] @ W_hh.T + b_hh)
                    return state, state[0]

                a = x @ W_hx.T + b_ih
                outputs.append(jax.lax.scan(step, self.zeros(data), a, reverse=bool(reverse))[1])
            x = jnp.concatenate(outputs, axis=-1)
        return x

    def weights(self, data: Data) -> list[list[Any]]:
        arrays = [self.jax.numpy.asarray(array) for array in data.state_dict.values()]
        return [arrays[first : first + 4] for first in range(0, len(arrays), 4)]

    def step(self, data: Data) -> Side:
        jax, [[W_hx, W_hh, b_ih, b_hh]] = self.jax, self.weights(data)
        cell = self.cells[data.case.kind]

        @jax.jit
        def compiled(x: Any, state: Any) -> Any:
            return cell(state, x @ W_hx.T + b_ih, state[0] @ W_hh.T + b_hh)

        zero = self.zeros(data)
        state = zero

        def step(x: Any) -> Any:
            nonlocal state
            state = compiled(x, state)
            return state[0].block_until_ready()

        def results() -> dict[str, Array]:
            nonlocal state
            state = zero
            return {"y": np.stack([step(x[None])[0] for x in jax.numpy.asarray(data.step_inputs)])}

        return Side(results, partial(step, jax.numpy.asarray(data.x[0])))

    def inference(self, data: Data) -> Side:
        jax, weights = self.jax, self.weights(data)
        compiled = jax.jit(partial(self.forward, data))
        x = jax.numpy.asarray(data.x)

        def run() -> Any:
            return compiled(weights, x).block_until_ready()

        return Side(lambda: {"y": run()}, run)

    def training(self, data: Data) -> Side | None:
        if data.lengths is not None:
            return None
        jax, weights = self.jax, self.weights(data)
        x, dy = jax.numpy.asarray(data.x), jax.numpy.asarray(data.dy)

        @jax.jit
        def compiled(weights: Any, x: Any) -> Any:
            y, backward = jax.vjp(partial(self.forward, data), weights, x)
            return y, backward(dy)

        def run() -> Any:
            return jax.block_until_ready(compiled(weights, x))

        def results() -> dict[str, Array]:
            y, (dweights, dx) = run()
            gradients = [array for direction in dweights for array in direction]
            return {"y": y, "dx": dx, **dict(zip(data.state_dict, gradients, strict=True))}

        return Side(results, run)


PEERS = (PyTorch, OnnxRuntime, OpenVINO, Jax)
