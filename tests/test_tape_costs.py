"""What the tape adds to a training step: no rounding, as against every pass handed on by hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import plumbed
import pytest


@pytest.mark.parametrize(
    "settings",
    [{"hidden_size": 20, "word_size": 9, "character_size": 5, "spelling_size": 7},
     {"hidden_size": 16, "num_layers": 2, "dropout": 0.2}, {"directions": "forward"},
     {}],
    ids=["small", "two layers", "forward", "default"],
)  # fmt: skip
def test_by_hand_and_on_a_tape(settings: dict[str, Any]) -> None:
    network, batch = plumbed.tagger(**settings)
    random = network.generator.bit_generator.state
    loss, _ = network.forward(*batch, None)
    network.backward(accumulate=False)
    taped = network.flat_grads.copy()
    assert all(np.any(gradient) for gradient in network.grads.values())
    network.flat_grads[...] = np.nan
    network.generator.bit_generator.state = random
    assert plumbed.training_step(network, *batch) == loss
    np.testing.assert_array_equal(network.flat_grads, taped)
    assert plumbed.training_step(network, *batch) != loss  # other dropout
