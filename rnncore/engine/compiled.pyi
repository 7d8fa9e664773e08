"""What a compiled build of the engine exports, for the type checker.

There is no such module at run time: `rnncore.engine.kernels(dtype)` loads a build, and `Kernels`
says what is in it. Sizes are numbers unless they are called bytes; arrays are flat, contiguous and
of the build's dtype, tokens and offsets intp.
"""

from typing import Any, Protocol

import numpy as np

Array = np.ndarray
#: array, first number, stride, part stride, place of each row
Where = tuple[Array, int, int, int, Array | None]

class Cell:
    name: str
    gates: str
    places: str
    states: str
    own: tuple[str, ...]
    starts: tuple[int, ...]
    elementwise: bool
    phases: int

class CustomCell(Cell):
    keep: Any
    def __init__(
        self,
        name: str,
        gates: str,
        places: str,
        states: str,
        own: tuple[str, ...],
        starts: tuple[int, ...],
        x_gates: list[int],
        h_gates: list[int],
        gradients: list[int],
        forward: int,
        backward: int,
        keep: Any = None,
        further: int = 0,
        elementwise: bool = False,
        second: int = 0,
        first_forward: int = 0,
        first_backward: int = 0,
    ) -> None: ...

class Layer:
    cell: Cell
    input_size: int
    hidden_size: int
    reverse: bool
    z_size: int
    table_size: int
    state_size: int
    block: int
    places: int
    packed_bytes: int
    product: str
    tile_rows: int
    def __init__(
        self, cell: Cell, input_size: int, hidden_size: int, reverse: bool, storage: str
    ) -> None: ...
    def packed_back_bytes(self, parts: int, part_stride: int) -> int: ...
    def forward_sizes(self, steps: int, batch: int, threads: int) -> dict[str, int]: ...
    def backward_sizes(self, rows: int) -> dict[str, int]: ...
    def splits(self, threads: int) -> bool: ...
    def plan(self, steps: int, batch: int, tokens: bool, threads: int) -> dict[str, int]: ...

class Weights:
    def __init__(
        self,
        layer: Layer,
        buffer: Array,
        W_hx: Array,
        W_hh: Array | None,
        bias: Array | None,
        own: tuple[Array | None, ...],
        threads: int,
    ) -> None: ...

class WeightsBack:
    def __init__(
        self,
        layer: Layer,
        buffer: Array,
        W_hx: Array,
        W_hh: Array | None,
        own: tuple[Array | None, ...],
        parts: int,
        part_stride: int,
        threads: int,
    ) -> None: ...

class Task:
    layer: Layer
    def __init__(self, layer: Layer) -> None: ...
    def set_weights(self, weights: Weights) -> None: ...
    def set_weights_back(self, weights: WeightsBack) -> None: ...
    def set_batch(
        self,
        offset: Array,
        running: int,
        training: bool,
        z: Array,
        h: Array | None,
        c: Array | None,
        scratch: Array,
        chunk: int,
    ) -> None: ...
    def set_between(self, between: Array) -> None: ...
    def set_between_back(self, dbetween: Array | None) -> None: ...
    def set_x_rows(self, x_rows: Array) -> None: ...
    def set_rank(self, rank: Array) -> None: ...
    def set_noise(
        self,
        zoneout_h: float,
        zoneout_c: float,
        h_now: Array | None,
        c_now: Array | None,
        masked: Array | None,
    ) -> None: ...
    def set_noise_back(self, h_aside: Array | None, c_aside: Array | None) -> None: ...
    def draw_noise(
        self, keys: tuple[int, int] | None, mask: Array | None, first_row: int
    ) -> None: ...
    def forget(self, keep_input: bool = False) -> None: ...
    def set_input(
        self, x: Array, first: int, stride: int, parts: int, part_stride: int, placed: bool
    ) -> None: ...
    def set_tokens(self, tokens: Array | None, table: Array | None) -> None: ...
    def set_states(self, h: Array) -> None: ...
    def set_from_zero(self, from_zero: bool) -> None: ...
    def set_output(self, y: Array, first: int, stride: int, placed: bool, leaves: bool) -> None: ...
    def set_batch_back(
        self, dh: Array, dc: Array | None, dz_columns: Array, x_panels: Array, h_panels: Array
    ) -> None: ...
    def set_gradients(
        self,
        dy: Array | None,
        first: int,
        dy_stride: int,
        dy_placed: bool,
        dy_rows: Array | None,
        dW_hx: Array,
        dW_hh: Array | None,
        db: Array | None,
        down: Array | None,
        adds: bool,
        no_dh_0: bool,
    ) -> None: ...
    def set_steps(self, dh_steps: Array, dc_steps: Array | None) -> None: ...
    def set_dx(
        self, dx: Array, columns: int, dx_rows: Array | None = None, leaves: bool = False
    ) -> None: ...
    def set_dtable(self, dtable: Array) -> None: ...

class Chain:
    vocabulary: int
    input_size: int
    output_size: int
    def __init__(
        self,
        tasks: list[Task],
        heads: list[LinearWeights],
        outputs: list[Array],
        tokens: Array | None,
        vocabulary: int,
        dtype: np.dtype,
    ) -> None: ...

class Stream(Chain):
    def __init__(
        self,
        tasks: list[Task],
        heads: list[LinearWeights],
        outputs: list[Array],
        chunk: int,
        tokens: Array | None,
        vocabulary: int,
        initial: Any,
        dtype: np.dtype,
        make_another: Any,
    ) -> None: ...
    def step(self, x: Any, out: Array | None = None) -> Array: ...
    def process(
        self, block: Any, out: Array | None = None, reset: Array | None = None
    ) -> Array: ...
    def reset(self) -> None: ...
    def get_state(self) -> Any: ...
    def set_state(self, state: Any) -> None: ...
    def copy(self) -> Stream: ...

class Streams(Chain):
    numbers: list[int]
    def __init__(
        self,
        tasks: list[Task],
        heads: list[LinearWeights],
        outputs: list[Array],
        offset: Array,
        most: int,
        threads: int,
        tokens: Array | None,
        vocabulary: int,
        initial: Any,
        dtype: np.dtype,
        holds: Any,
    ) -> None: ...
    def __len__(self) -> int: ...
    def join(self) -> int: ...
    def leave(self, number: int) -> None: ...
    def step(self, x: Any, at: Any = None, out: Array | None = None) -> Array: ...
    def reset(self, number: int) -> None: ...
    def get_state(self, number: int) -> Any: ...
    def set_state(self, number: int, state: Any) -> None: ...

class Drawer:
    def __init__(
        self, symbols: int, temperature: float, top_k: int, top_p: float, penalty: float
    ) -> None: ...
    def choose(self, logits: Array, uniforms: Array, recent: Array, left_out: Array) -> Array: ...
    def write(
        self,
        stream: Stream,
        history: Array,
        known: int,
        begin: int,
        window: int,
        uniforms: Array,
        left_out: Array,
    ) -> int: ...

class Linear:
    in_features: int
    out_features: int
    row_size: int
    packed_bytes: int
    def __init__(self, in_features: int, out_features: int, storage: str) -> None: ...
    def packed_back_bytes(self, parts: int, part_stride: int) -> int: ...
    def backward_sizes(self, rows: int) -> dict[str, int]: ...

class LinearWeights:
    row_size: int
    def __init__(
        self, linear: Linear, buffer: Array, W: Array, b: Array | None, threads: int
    ) -> None: ...
    def apply(self, x: Any, threads: int) -> Any: ...

class LinearWeightsBack:
    def __init__(
        self, linear: Linear, buffer: Array, W: Array, parts: int, part_stride: int, threads: int
    ) -> None: ...

_Cell = Cell
_CustomCell = CustomCell
_Layer = Layer
_Weights = Weights
_WeightsBack = WeightsBack
_Task = Task
_Chain = Chain
_Stream = Stream
_Streams = Streams
_Drawer = Drawer
_Linear = Linear
_LinearWeights = LinearWeights
_LinearWeightsBack = LinearWeightsBack

class Kernels(Protocol):
    __file__: str
    lanes: int
    panel: int
    chunk_rows: int
    vector_bytes: int
    most_layers: int
    most_heads: int
    most_gates: int
    most_own_vectors: int
    most_places: int
    most_states: int
    exp_terms: tuple[float, ...]
    expm1_terms: tuple[float, ...]
    elementary: dict[str, float]
    most_threads: int
    has_pcg64: bool
    block_fields: tuple[str, ...]
    Cell: type[_Cell]
    CustomCell: type[_CustomCell]
    Layer: type[_Layer]
    Weights: type[_Weights]
    WeightsBack: type[_WeightsBack]
    Task: type[_Task]
    Chain: type[_Chain]
    Stream: type[_Stream]
    Streams: type[_Streams]
    Drawer: type[_Drawer]
    Linear: type[_Linear]
    LinearWeights: type[_LinearWeights]
    LinearWeightsBack: type[_LinearWeightsBack]
    def cells(self) -> tuple[str, ...]: ...
    def cell(self, name: str) -> _Cell: ...
    def backward_chunk(self, steps: int, rows: int) -> int: ...
    def backward_chunks(self, task: _Task) -> int: ...
    def forward(self, tasks: list[_Task], threads: int) -> None: ...
    def backward(self, tasks: list[_Task], threads: int) -> None: ...
    def forward_wavefront(self, tasks: list[_Task], threads: int) -> None: ...
    def backward_wavefront(self, tasks: list[_Task], threads: int) -> None: ...
    def add_rows(self, out: Array, places: Array, rows: Array, width: int) -> None: ...
    def products(self) -> dict[str, str]: ...
    def use_products(self, form: str) -> None: ...
    def borrow(self, parallel: int, place: int, count: int, most: int) -> None: ...
    def share_always(self, always: bool) -> None: ...
    def team_state(self) -> tuple[int, int, int, bool]: ...
    def one_hot_table(
        self,
        layer: _Layer,
        table: Array,
        W_hx: Array,
        weights: _Weights,
        tokens: Array,
        threads: int,
    ) -> None: ...
    def one_hot_gradient(
        self, layer: _Layer, dtable: Array, dW_hx: Array, tokens: Array, threads: int
    ) -> None: ...
    def table_forward(
        self,
        layer: _Layer,
        table: Array,
        embedding: Array,
        vocabulary: int,
        weights: _Weights,
        threads: int,
    ) -> None: ...
    def table_backward(
        self,
        layer: _Layer,
        dtable: Array,
        embedding: Array,
        vocabulary: int,
        weights: _WeightsBack,
        dembedding: Array,
        dW_hx: Array,
        columns: Array,
        x_panels: Array,
        threads: int,
    ) -> None: ...
    def drop(self, out: Array, x: Array, p: float, key: int, threads: int) -> None: ...
    def mask_as_numpy(
        self, out: Array, state: dict[str, Any], highest: int, scale: float, threads: int
    ) -> None: ...
    def move_rows(
        self, to: Where, source: Where, rows: int, parts: int, depth: int, threads: int
    ) -> None: ...
    def linear_forward(
        self,
        weights: _LinearWeights,
        y: Array,
        x: Array,
        first: int,
        stride: int,
        parts: int,
        part_stride: int,
        rows: int,
        threads: int,
    ) -> None: ...
    def linear_backward(
        self,
        linear: _Linear,
        weights: _LinearWeightsBack | None,
        dy: Array,
        x: Array,
        first: int,
        stride: int,
        parts: int,
        part_stride: int,
        rows: int,
        dx: Array | None,
        dx_stride: int,
        dW: Array,
        db: Array | None,
        adds: bool,
        dy_columns: Array,
        x_panels: Array,
        threads: int,
    ) -> None: ...
    def largest(
        self,
        values: Array,
        places: Array,
        log_sums: Array | None,
        x: Array,
        classes: int,
        stride: int,
        count: int,
        threads: int,
    ) -> None: ...
    def softmax_cross_entropy(
        self,
        dlogits: Array,
        losses: Array,
        logits: Array,
        targets: Array,
        classes: int,
        logits_stride: int,
        dlogits_stride: int,
        weight: float,
        threads: int,
    ) -> None: ...
    def ctc_scratch(self, longest: int, labels: int, classes: int) -> int: ...
    def ctc(
        self,
        dlogits: Array,
        losses: Array,
        logits: Array,
        offset: Array,
        lengths: Array,
        targets: Array,
        ends: Array,
        scales: Array,
        scratch: Array,
        rows: int,
        classes: int,
        logits_stride: int,
        dlogits_stride: int,
        blank: int,
        zero_infinity: bool,
        threads: int,
    ) -> None: ...
    def map_function(self, name: str, out: Array, x: Array) -> None: ...
    def sgd(
        self,
        params: Array,
        grads: Array,
        velocity: Array,
        lr: float,
        momentum: float,
        weight_decay: float,
        threads: int,
    ) -> None: ...
    def rmsprop(
        self,
        params: Array,
        grads: Array,
        square: Array,
        velocity: Array,
        lr: float,
        alpha: float,
        eps: float,
        momentum: float,
        weight_decay: float,
        threads: int,
    ) -> None: ...
    def adam(
        self,
        params: Array,
        grads: Array,
        m: Array,
        v: Array,
        lr: float,
        beta1: float,
        beta2: float,
        eps: float,
        weight_decay: float,
        decoupled: float,
        step: int,
        threads: int,
    ) -> None: ...
    def sum_of_squares(self, x: Array, threads: int) -> float: ...
    def scale(self, x: Array, factor: float, threads: int) -> None: ...
    def average(self, mean: Array, x: Array, rate: float, threads: int) -> None: ...
