"""The standard layers, RNN, LSTM and GRU, with their equations."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import DTypeLike

from rnncore.arguments import check_flag, is_number
from rnncore.layers.module import Seed
from rnncore.layers.recurrent import Recurrent


class RNN(Recurrent):
    """The simple recurrent network, in one or more layers and one or both directions.

    `h_t = f(W_hx x_t + W_hh h_{t-1} + b_h)`

    Parameters
    ----------
    input_size, hidden_size, num_layers
        Features of x, hidden units, layers. `hidden_size` may be a list, one size a layer.
    nonlinearity
        f: "tanh", "relu", "sigmoid" or "identity".
    bias
        Whether there is a b_h. "pytorch" trains two vectors whose sum is b_h, `bias_ih` and
        `bias_hh`, as PyTorch does: Adam, clipping and weight decay then take the same steps.
    batch_first
        Whether x and y are (B, T, features) in place of (T, B, features).
    dropout
        Probability between the layers, in `forward` alone; a warning if there is but one.
    bidirectional
        Whether a second direction reads the sequence backwards; y then holds both.
    variational
        Whether `dropout` has one mask a sequence, the same at every step, in place of one a step.
    recurrent_dropout, zoneout, weight_drop
        Further noise of `forward`, each a probability; see below.
    learn_initial_state
        Whether the state that a sequence begins with, when none is given, is a parameter:
        `initial_h_l0` and so on, zero at first.
    precision
        Of the products' factors: "float32", "bfloat16", "bfloat16x3" or, for inference alone,
        "int8", see `set_matmul_precision`; None: what that has set. `set_precision` changes it.
    reverse
        Whether the only direction reads backwards, each sequence from its own last step; y stays
        in the order of x, and the returned state is that after the first step. Parameters are
        called `weight_ih_l0_reverse` and so on. Keras calls it `go_backwards`, and turns y round.
    dtype, seed
        float32 or float64; a seed or generator for initial values and dropout.

    Notes
    -----
    x is (T, B, I) or (T, I), floating-point numbers of any precision, converted to the layer's
    dtype; or integer token ids (T, B) or (T,): with `tokens=True` they select one-hot inputs, with
    `embedding` rows of it, an `Embedding` or an array (n, I); or `Rows`, as another layer returns
    them with `rows=True`.
    y is (T, B, directions * H). The state h is (num_layers * directions, B, H), zero by default;
    where hidden sizes differ, a list with (directions, B, H) for each layer.
    `lengths` (B,) gives the steps of each sequence, in any order, zeros allowed; y is zero beyond
    them, whatever x holds there, and the returned state is each sequence's own last. x may also be
    a list of arrays, one a sequence; y is such a list then.

    Initial values are U(-1 / sqrt(H), 1 / sqrt(H)).

    Noise, in `forward` alone and drawn from `seed`; m is 0 with the given probability p, else 1:

    - `dropout`: y of each layer but the last becomes `y_t m_t / (1 - p)`; `variational`:
      `y_t m / (1 - p)`, one m (directions * H,) for all steps of a sequence.
    - `recurrent_dropout`: `W_hh (h_{t-1} m / (1 - p))`, one m (H,) for all steps of a sequence.
    - `zoneout`: `h_t = m_t h'_t + (1 - m_t) h_{t-1}`, where h' is what the equations above give.
      An LSTM's c_t likewise, with an m_t of its own, and `zoneout=(p_h, p_c)` gives each its own
      probability; h'_t then comes of c'_t. Inference takes the expectation,
      `(1 - p) h'_t + p h_{t-1}`.
    - `weight_drop`: `W_hh m / (1 - p)`, one m of the shape of W_hh for the whole pass.

    A pass over the next chunk of a text has new masks. They do not depend on the number of threads,
    nor on `memory`, and p is rounded to a multiple of 2**-32 (that of `dropout` without
    `variational` of 2**-24).

    References
    ----------
    Elman, Finding structure in time (1990), section 2. Werbos, Backpropagation through time
    (1990). `variational`, `recurrent_dropout`: Gal and Ghahramani, A theoretically grounded
    application of dropout in recurrent neural networks (2016), section 4. `zoneout`: Krueger et
    al., Zoneout (2017), section 3.3. `weight_drop`: Merity, Keskar and Socher, Regularizing and
    optimizing LSTM language models (2018), section 2.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> layer = rnncore.RNN(3, 5, nonlinearity="relu", seed=0)
    >>> y, h = layer.forward(np.ones((7, 2, 3)))
    >>> y.shape, h.shape
    ((7, 2, 5), (1, 2, 5))
    >>> dx, dh = layer.backward(np.ones_like(y))
    >>> dx.shape, layer.grads["weight_hh_l0"].shape
    ((7, 2, 3), (5, 5))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        variational: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        weight_drop: float = 0.0,
        learn_initial_state: bool = False,
        precision: str | None = None,
        reverse: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        known = ("tanh", "relu", "sigmoid", "identity")
        if nonlinearity not in known:
            raise ValueError(
                f"nonlinearity: Unknown nonlinearity {nonlinearity!r}; expected one of "
                f"{', '.join(known)}"
            )
        self.layer_name = f"RNN_{nonlinearity.upper()}"
        self.nonlinearity = nonlinearity
        super().__init__(
            f"rnn_{nonlinearity}", input_size, hidden_size, num_layers, bias, batch_first, dropout,
            bidirectional, variational=variational, recurrent_dropout=recurrent_dropout,
            zoneout=zoneout, weight_drop=weight_drop, learn_initial_state=learn_initial_state,
            precision=precision, reverse=reverse, dtype=dtype, seed=seed,
        )  # fmt: skip


class LSTM(Recurrent):
    """Long short-term memory, in one or more layers and one or both directions.

    `i, f, o = sigmoid(W_hx x_t + W_hh h_{t-1} + b_h)`, `g = tanh(the same)`,
    `c_t = f c_{t-1} + i g`, `h_t = o tanh(c_t)`; rows of W and b in the order i, f, g, o.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, variational, \
recurrent_dropout, zoneout, weight_drop, learn_initial_state, precision, reverse, dtype, seed
        As in `RNN`.
    forget_bias
        What the forget gate's part of the bias begins with; None: drawn like the rest. At 0 the
        gate begins at 1/2 and memories fade within a few steps, at 1 they last (Jozefowicz et al.,
        An empirical exploration of recurrent network architectures, 2015, section 2.2).

    Notes
    -----
    x is (T, B, I) or (T, I), or token ids (T, B) or (T,), or a list of sequences; y is
    (T, B, directions * H); the state is a tuple of h and c, each (num_layers * directions, B, H),
    zero by default. Where hidden sizes differ, h and c are lists, (directions, B, H) for each
    layer. `RNN` says more about `lengths` and lists.

    References
    ----------
    Hochreiter and Schmidhuber, Long short-term memory (1997). The forget gate: Gers, Schmidhuber
    and Cummins, Learning to forget (2000), section 3.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> layer = rnncore.LSTM(3, 5, num_layers=2, bidirectional=True, seed=0)
    >>> y, (h, c) = layer(np.ones((7, 2, 3)), lengths=[7, 4])
    >>> y.shape, h.shape, float(abs(y[4:, 1]).max())
    ((7, 2, 10), (4, 2, 5), 0.0)
    """

    layer_name = "LSTM"

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        forget_bias: float | None = None,
        variational: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float | tuple[float, float] = 0.0,
        weight_drop: float = 0.0,
        learn_initial_state: bool = False,
        precision: str | None = None,
        reverse: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        super().__init__(
            "lstm", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            variational=variational, recurrent_dropout=recurrent_dropout, zoneout=zoneout,
            weight_drop=weight_drop, learn_initial_state=learn_initial_state,
            precision=precision, reverse=reverse, dtype=dtype, seed=seed,
        )  # fmt: skip
        if forget_bias is not None:
            if not is_number(forget_bias) or not np.isfinite(forget_bias) or not self.bias:
                raise ValueError(
                    "forget_bias: expected a finite number, and a layer with bias, got "
                    f"{forget_bias!r} with bias={bias!r}"
                )
            for names in self._names:
                forget = slice(names.hidden_size, 2 * names.hidden_size)  # gates i, f, g, o
                self._params[f"bias_ih{names.end}"][forget] = forget_bias
                if names.two:
                    self._params[f"bias_hh{names.end}"][forget] = 0
            self.weights_changed()


class GRU(Recurrent):
    """The gated recurrent unit, in one or more layers and one or both directions.

    `r, z = sigmoid(W_hx x_t + W_hh h_{t-1} + b_h)`,
    `n = tanh(W_hx x_t + b_h + r (W_hh h_{t-1} + b_hn))`, `h_t = (1 - z) n + z h_{t-1}`; rows of W
    and b in the order r, z, n. The reset gate comes after the linear map, as in PyTorch.

    With `reset_after=False` it comes before: `n = tanh(W_hx x_t + W_hh (r h_{t-1}) + b_h)`.

    Parameters
    ----------
    input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, variational, \
recurrent_dropout, zoneout, weight_drop, learn_initial_state, precision, reverse, dtype, seed
        As in `RNN`.
    reset_after
        Whether the reset gate comes after the linear map, as in PyTorch, cuDNN and Keras since 2.
        False is the paper's GRU, that of Keras 1, of Keras with `reset_after=False`, of ONNX with
        `linear_before_reset=0` and of RNNoise. Two products a step wait for each other, so it is
        somewhat slower. A `recurrent_dropout` masks the h that both read: `W_hh (r h m / (1 - p))`.

    Notes
    -----
    x is (T, B, I) or (T, I), or token ids (T, B) or (T,), or a list of sequences; y is
    (T, B, directions * H); the state h is (num_layers * directions, B, H), zero by default. `RNN`
    says more about `lengths` and lists.

    Among `params`, beside the single bias `bias_ih_l0`, `bias_hn_l0` (H,) is the bias inside the
    reset gate's reach. `state_dict` has it as the last third of PyTorch's `bias_hh_l0`. With
    `reset_after=False` there is none, and `state_dict` has a further `reset_after`, 0: a state of
    one kind of GRU is refused by the other. Whoever brings weights from elsewhere says so:
    `layer.load_state_dict({**weights, "reset_after": 0})`.

    References
    ----------
    Cho et al., Learning phrase representations using RNN encoder-decoder (2014), section 2.3.

    Examples
    --------
    >>> import numpy as np, rnncore
    >>> y, h = rnncore.GRU(3, 5, seed=0)(np.ones((7, 3)))
    >>> y.shape, h.shape
    ((7, 5), (1, 5))
    >>> sorted(rnncore.GRU(3, 5, reset_after=False, seed=0).params)
    ['bias_ih_l0', 'weight_hh_l0', 'weight_ih_l0']
    """

    layer_name = "GRU"

    def __init__(
        self,
        input_size: int,
        hidden_size: int | Sequence[int],
        num_layers: int = 1,
        bias: bool | str = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        *,
        reset_after: bool = True,
        variational: bool = False,
        recurrent_dropout: float = 0.0,
        zoneout: float = 0.0,
        weight_drop: float = 0.0,
        learn_initial_state: bool = False,
        precision: str | None = None,
        reverse: bool = False,
        dtype: DTypeLike = np.float32,
        seed: Seed = None,
    ) -> None:
        self.reset_after = check_flag("reset_after", reset_after)
        cell = "gru" if self.reset_after else "gru_reset_before"
        super().__init__(
            cell, input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            variational=variational, recurrent_dropout=recurrent_dropout, zoneout=zoneout,
            weight_drop=weight_drop, learn_initial_state=learn_initial_state,
            precision=precision, reverse=reverse, dtype=dtype, seed=seed,
        )  # fmt: skip

    def _sizes_shown(self) -> list[str]:
        return [*super()._sizes_shown(), *["reset_after=False"] * (not self.reset_after)]
