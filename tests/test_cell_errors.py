"""What is no cell is refused when it is defined, with the line and the reason."""

from __future__ import annotations

import math
import random
import re

import numpy as np
import pytest

import rnncore
from rnncore.cells import log, sigmoid, sqrt, tanh

HALF = 0.5
WORDS = "half"


def helper(a):
    return a * a


def has_if(z):
    if z.n > 0:
        return z.n
    return 0.0


def has_loop(z):
    n = z.n
    for _ in range(3):
        n = tanh(n)
    return n


def has_raise(z):
    raise ValueError


def undeclared(z):
    return tanh(z.q)


def calls_helper(z):
    return helper(z.n)


def draws(z):
    return z.n * random.random()


def draws_numpy(z):
    return z.n + np.random.normal()


def two_states(z, prev):
    return z.n, prev.h


def no_return(z):
    n = tanh(z.n)  # noqa: F841


def no_number(z):
    return z.n * WORDS


def unknown_name(z):
    return z.n * nowhere  # noqa: F821


def indexes(z):
    return z[0]


def not_finite(z):
    n = log(z.n)
    return tanh(n)


def bare(z):
    return z


def condition(z):
    return z.n > 0


def odd_power(z):
    return z.n**0.5


def text(z):
    return float(f"{z.n:.3f}")


def behind(z):
    return z.n
    n = 1  # noqa: F841


def wrong_count(z):
    return sigmoid(z.n, 2)


def of_a_library(z):
    return math.erf(z.n)


def unused(x):
    return 1.0


def second(z, prev):
    return tanh(z.n + prev.c)


@pytest.mark.parametrize(
    ("function", "line", "reason"),
    [
        (has_if, "if z.n > 0:", "if statement; write `a if condition else b`"),
        (has_loop, "for _ in range(3):", "a loop"),
        (has_raise, "raise ValueError", "return a NaN instead"),
        (undeclared, "return tanh(z.q)", "z.q is not declared; z has n"),
        (calls_helper, "return helper(z.n)", "helper is a function of your own"),
        (draws, "return z.n * random.random()", "draws random numbers"),
        (draws_numpy, "return z.n + np.random.normal()", "draws random numbers"),
        (two_states, "return z.n, prev.h", "return h, the states after the step, got 2 numbers"),
        (no_return, "def no_return(z):", "expected a return at the end"),
        (no_number, "return z.n * WORDS", "expected a number, got str"),
        (unknown_name, "return z.n * nowhere", "nowhere is not known here"),
        (indexes, "return z[0]", "cannot have Subscript"),
        (not_finite, "n = log(z.n)", "nan here at ordinary inputs"),
        (bare, "return z", "z is no number; it has z.n"),
        (condition, "return z.n > 0", "expected a number, got a condition"),
        (odd_power, "return z.n**0.5", "a whole number up to 16 as the power"),
        (text, 'return float(f"{z.n:.3f}")', "float is not known here; a cell has"),
        (behind, "n = 1", "stands behind the return"),
        (wrong_count, "return sigmoid(z.n, 2)", "expected 1 arguments without names, got 2"),
        (of_a_library, "return math.erf(z.n)", "math.erf is a function of your own or of another"),
        (second, "return tanh(z.n + prev.c)", "prev.c is not declared"),
    ],
)
def test_the_line_and_the_reason(function, line, reason) -> None:
    with pytest.raises(rnncore.CellError) as caught:
        rnncore.cell(gates="n")(function)
    where, text = re.match(r"(.*?: `.*?`): (.*)", str(caught.value), re.S).groups()
    first = function.__code__.co_firstlineno
    number = int(re.search(r"test_cell_errors.py, line (\d+)", where)[1])
    assert first <= number <= first + 4
    assert line in where.replace("  # noqa: F841", "") and reason in text, str(caught.value)


def test_a_slope_that_is_none() -> None:
    def root(z):
        return sqrt(z.n) if z.n > 0 else 0.0  # 0 times NaN below zero

    with pytest.raises(rnncore.CellError, match=r"the gradient of x\.n is nan .* not taken"):
        rnncore.cell(gates="n")(root)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"gates": "abcdefghi"}, ("gates", "1 to 8 letters")),
        ({"gates": ""}, ("gates", "''")),
        ({"gates": "nn"}, ("gates", "different")),
        ({"gates": "n", "states": "ch"}, ("states", "h first", "'ch'")),
        ({"gates": "n", "states": ""}, ("states", "1 to 8 letters")),
        ({"gates": "n", "states": "hcdefgijk"}, ("states", "1 to 8 letters")),
        ({"gates": "n", "states": "hcc"}, ("states", "different")),
        ({"gates": "n", "states": "hcm"}, ("h, c, m, the states after", "got 1 number")),
        ({"gates": "n", "states": "hm", "own": "initial_m"}, ("own", "initial_m")),
        ({"gates": "n", "own": "weight_ih"}, ("own", "weight_ih")),
        ({"gates": "n", "own": "a a-b"}, ("own", "a-b")),
        ({"gates": "n", "own": {"a": (2, 1)}}, ("own", "the smaller first")),
        ({"gates": "n", "own": ["a"]}, ("own", "names in a text", "['a']")),
        ({"gates": "n", "own": {1: 2.0}}, ("own", "names in a text", "{1: 2.0}")),
        ({"gates": "n", "own": None}, ("own", "names in a text", "None")),
        ({"gates": "nm"}, ("gate m is declared", "remove it")),
    ],
)
def test_declarations_that_do_not_fit(options, words) -> None:
    def rnn(z):
        return tanh(z.n)

    with pytest.raises(rnncore.CellError) as caught:
        rnncore.cell(**options)(rnn)
    assert all(word in str(caught.value) for word in words), caught.value


def test_names_of_arguments_and_kinds_of_functions() -> None:
    def arguments(z, state):
        return tanh(z.n)

    def defaults(z, prev=None):
        return tanh(z.n)

    async def later(z):
        return tanh(z.n)

    with pytest.raises(rnncore.CellError, match="later: expected a plain def, got an async one"):
        rnncore.cell(gates="n")(later)
    with pytest.raises(rnncore.CellError, match=r"among z, x, h, prev, own .* got state"):
        rnncore.cell(gates="n")(arguments)
    with pytest.raises(rnncore.CellError, match="defaults or a star"):
        rnncore.cell(gates="n")(defaults)
    with pytest.raises(rnncore.CellError, match="a function made by def, got a lambda"):
        rnncore.cell(gates="n")(lambda z: z.n)
    with pytest.raises(rnncore.CellError, match="expected a function, got int"):
        rnncore.cell(gates="n")(3)
    scope: dict = {}
    exec("def nowhere(z):\n    return z.n", scope)
    with pytest.raises(rnncore.CellError, match="source cannot be read"):
        rnncore.cell(gates="n")(scope["nowhere"])


def test_the_engines_names_are_taken() -> None:
    def lstm(z):
        return tanh(z.n)

    with pytest.raises(rnncore.CellError, match="the engine's own cell"):
        rnncore.cell(gates="n")(lstm)


def test_constants_from_outside() -> None:
    third = 1 / 3

    def scaled(z, prev):
        n = math.pi * HALF * tanh(z.n)
        n += third
        return n if n > 0 and not prev.h > 2 else third * n

    layer = rnncore.Recurrent(rnncore.cell(gates="n")(scaled), 1, 1, dtype=np.float64, seed=0)
    y, _ = layer(np.ones((1, 1, 1)))
    z = layer.params["weight_ih_l0"] + layer.params["bias_ih_l0"]
    n = math.pi / 2 * np.tanh(z) + third
    np.testing.assert_allclose(y[0], np.where(n > 0, n, third * n), rtol=1e-12)


def test_what_is_not_a_cell() -> None:
    with pytest.raises(TypeError, match=r"what rnncore\.cell makes, got function"):
        rnncore.Recurrent(has_if, 3, 4)
