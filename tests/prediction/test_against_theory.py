"""Plain stacks: prediction and isograd.theory are two ways to the same numbers."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from isograd import theory
from isograd.prediction.ops.elementwise import evaluated, rectified
from isograd.prediction.predicting import predict

WEIGHT_VAR, BIAS_VAR, WIDTH, DEPTH = 1.7, 0.05, 256, 8
ACTIVATIONS = {
    "tanh": nn.Tanh,
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "hardtanh": nn.Hardtanh,
    "sigmoid": nn.Sigmoid,
    "selu": nn.SELU,
    "silu": nn.SiLU,
    "relu6": nn.ReLU6,
}
KINKED_AT_ZERO = {"relu", "relu6"}


def stack(name: str) -> nn.Sequential:
    parts: list[nn.Module] = []
    for _ in range(DEPTH):
        layer = nn.Linear(WIDTH, WIDTH)
        nn.init.normal_(layer.weight, 0, math.sqrt(WEIGHT_VAR / WIDTH))
        nn.init.normal_(layer.bias, 0, math.sqrt(BIAS_VAR))
        parts += [layer, ACTIVATIONS[name]()]
    return nn.Sequential(*parts)


@pytest.mark.parametrize("name", ACTIVATIONS)
def test_lengths_correlations_and_gradients_of_a_plain_stack(name: str) -> None:
    stats = {"mean": 0.0, "std": 1.0, "correlation": 0.3}
    record = predict(lambda: stack(name), f"float32[4,{WIDTH}]", input_stats=stats)
    kinds = {"weight_var": WEIGHT_VAR, "bias_var": BIAS_VAR}
    q = WEIGHT_VAR + BIAS_VAR
    c = (0.3 * WEIGHT_VAR + BIAS_VAR) / q
    for layer in range(DEPTH - 1):
        here, following = 2 * layer, 2 * layer + 2
        length, correlation = (
            record.value(f"forward.{key}", here) for key in ("rms", "correlation")
        )
        assert length is not None
        assert length**2 == pytest.approx(q, rel=1e-10)
        # What a Hermite series of 48 terms leaves out of a kink, at correlations up to 0.95.
        assert correlation == pytest.approx(c, abs=1e-6 if name in KINKED_AT_ZERO else 1e-10)
        before, after = (record.value("backward.rms", at) for at in (here, following))
        assert before is not None
        assert after is not None
        slope = theory.correlation_map(name, 1.0, q, **kinds).gradient
        assert (before / after) ** 2 == pytest.approx(slope, rel=1e-10)
        c = theory.correlation_map(name, c, q, **kinds).value
        q = float(theory.length_map(name, q, **kinds))


def test_a_relu_at_nodes_is_what_torch_says() -> None:
    nodes = np.array([[-2.5, -1e-300, 0.0, 1e-300, 3.0]])
    for found, known in zip(rectified(nodes), evaluated(torch.relu, nodes), strict=True):
        assert found.tobytes() == known.tobytes()
