"""The slides of the lecture, in their order, and what draws the picture of each."""

from __future__ import annotations

import time
from importlib import import_module
from pathlib import Path
from typing import NamedTuple


class Slide(NamedTuple):
    """A slide; ``rnncore.story.<name>.draw(path, data)`` draws its picture and returns a caption.

    Attributes
    ----------
    name
        Of its file, of its picture, and at the command line.
    title, words
        What stands above the picture, and what there is to say.
    formula
        In plain letters; empty where there is none.
    needs
        What it reads of the folder of data; a "?" before it: it does without.
    """

    name: str
    title: str
    words: str
    formula: str = ""
    needs: str = ""


SLIDES = (
    Slide(
        "tagging", "Sequence tasks: a tag for each word",
        "What a word is depends on the words around it. One network, one weight matrix, sentences "
        "of any length.",
        "p(tag_t | words) = softmax(W_yh [h_t forward, h_t backward] + b_y)",
        "tagging/ud-english-ewt",
    ),
    Slide(
        "speech", "Sequence tasks: words out of sound",
        "Hundreds of frames come in, a few words come out, and nobody says where one ends: CTC "
        "sums over all alignments, and the network says nothing but for a moment in each word.",
        "p(words | x) = sum over alignments of prod_t p(label_t | x)",
        "speech/fsdd",
    ),
    Slide(
        "series", "Autoregression: what comes next in a series",
        "The past is read segment by segment; what is predicted has an interval, since nobody "
        "knows the future.",
        "p(x_{t+1}, ..., x_{t+k} | x_1, ..., x_t)",
        "?series/sunspots-yearly.csv",
    ),
    Slide(
        "equations", "The recurrent network",
        "A state is carried from step to step; the same three weight matrices act at each of them.",
        "h_t = tanh(W_hx x_t + W_hh h_{t-1} + b_h)\ny_t = W_yh h_t + b_y",
    ),
    Slide(
        "truncation", "Backpropagation through time, and where it is cut off",
        "Each symbol shall be said again ten steps later. The state is carried on, gradients "
        "go back to the beginning of a chunk: chunks of ten steps or fewer never see what was "
        "to be kept.",
        "dL/dh_{t-1} = W_hh^T (f'(z_t) * dL/dh_t) + dL_{t-1}/dh_{t-1}",
    ),
    Slide(
        "stacking", "Layers upon layers",
        "The states of one layer are the input of the next. Depth costs time: here all have "
        "the same.",
        "h_t^l = tanh(W_hx^l h_t^{l-1} + W_hh^l h_{t-1}^l + b_h^l)",
        "?text/tinyshakespeare.txt",
    ),
    Slide(
        "exploding", "Exploding and vanishing",
        "One input at the first step, one gradient at the last. Half of all ReLUs pass, so a "
        "variance of 2/n is critical: above it states and gradients explode, below they vanish.",
        "E |h_t|^2 = (v / 2) E |h_{t-1}|^2,  W_hh ~ N(0, v/n):  sqrt(3/2), 1, sqrt(3/4) a step",
    ),
    Slide(
        "bounded", "Why bounded activations are no cure",
        "tanh and sigmoid keep states within bounds. Gradients are multiplied by slopes: at "
        "most 1/4 of a sigmoid, so they vanish; tanh with large weights is flat for most "
        "units, and the few that are not make gradients explode all the same.",
        "dL/dh_{t-1} = W_hh^T diag(1 - h_t^2) dL/dh_t",
    ),
    Slide(
        "gates", "The gates of an LSTM",
        "Trained to add two marked numbers out of fifty: gates open at the marks, "
        "the forget gate stays open, and the cell holds what it was given.",
        "c_t = f_t c_{t-1} + i_t g_t,   h_t = o_t tanh(c_t)\n"
        "i, f, o = sigmoid(W_hx x_t + W_hh h_{t-1} + b),   g = tanh(...)",
    ),
    Slide(
        "memory", "Why LSTMs work",
        "From the last step to the first the gradient of c passes forget gates alone, which "
        "learn to be open. In the simple network it passes W_hh and a slope at each step.",
        "dL/dc_{t-1} = f_t dL/dc_t + ...",
    ),
    Slide(
        "characters", "Character models",
        "Trained to say which character comes next, then fed with what it said.",
        "p(text) = prod_t p(x_{t+1} | x_1, ..., x_t)",
        "?text/tinyshakespeare.txt",
    ),
    Slide(
        "translation", "Sequence to sequence",
        "One network reads, another writes, and at each step looks back at what was read. "
        "Dates are rewritten: the picture shows where it looks.",
        "c_t = sum_s a_ts m_s,   a_t = softmax(q_t^T W m)",
    ),
    Slide(
        "directions", "Two directions",
        "Is the sum of both neighbours above 0? Who reads forward knows one of them, and has "
        "three in four right at best.",
        "y_t = W_yh [h_t forward, h_t backward] + b_y",
    ),
)  # fmt: skip


class Drawn(NamedTuple):
    """What came of a slide: a picture and its caption, or why there is none."""

    slide: Slide
    picture: Path | None
    caption: str
    seconds: float


def draw_slide(slide: Slide, folder: Path, data: Path | None) -> Drawn:
    """Draw the picture of a slide into a folder; without its data say what is missing."""
    optional, needs = slide.needs.startswith("?"), slide.needs.removeprefix("?")
    found = data / needs if needs and data is not None else None
    if found is not None and not found.exists():
        found = None
    if needs and found is None and not optional:
        return Drawn(slide, None, f"No picture: it needs {needs} in the folder of --data.", 0.0)
    begun, path = time.monotonic(), folder / f"{slide.name}.png"
    draw = import_module(f"rnncore.story.{slide.name}").draw
    return Drawn(slide, path, draw(path, found), time.monotonic() - begun)
