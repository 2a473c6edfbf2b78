"""What cannot be used is refused by our own error, and what has no answer says so."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from isograd import theory
from isograd.errors import InputError

NAN = float("nan")


@pytest.mark.parametrize(
    ("ask", "told"),
    [
        (lambda: theory.activation("leaky_relu", negative_slope="a"), "must be a finite number"),
        (lambda: theory.activation("leaky_relu", negative_slope=NAN), "must be a finite number"),
        (lambda: theory.activation("leaky_relu", negative_slope=[0.1]), "must be a finite number"),
        (lambda: theory.activation("celu", alpha=0.0), "celu divides by alpha"),
        (lambda: theory.activation("softplus", beta=0.0), "softplus divides by beta"),
        (lambda: theory.activation("hardtanh", min_val=2, max_val=1), "min_val < max_val"),
        (lambda: theory.activation("softshrink", lambd=-1.0), "is not negative"),
        (lambda: theory.activation(nn.Linear), "Linear"),
        (lambda: theory.activation(nn.Linear(6, 6)), "not elementwise"),
        (lambda: theory.activation(nn.functional.linear), "linear"),
        (lambda: theory.activation(nn.LayerNorm(6)), "raised on .521,. numbers"),
        (lambda: theory.activation(lambda x: torch.exp(1j * x)), "returns complex numbers"),
        (lambda: theory.activation(lambda x: torch.tanh(x.float())), "computes in float32"),
        (lambda: theory.activation(torch.tanh, kinks=(NAN,)), "kinks are finite numbers"),
        (lambda: theory.activation(torch.tanh, kinks=0.3), "kinks are finite numbers"),
        (lambda: theory.length_map("relu", NAN, weight_var=1.0), "finite and not negative"),
        (lambda: theory.length_map("gelu", -1.0, weight_var=1.0), "finite and not negative"),
        (lambda: theory.length_map("gelu", 1e300, weight_var=1.0), "overflows"),
        (lambda: theory.correlation_map("gelu", 0.5, 1e200, weight_var=1.0), "overflows"),
        (lambda: theory.trajectory("tanh", "a", weight_var=1.0), "depth is a whole number"),
        (lambda: theory.trajectory("tanh", 1.5, weight_var=1.0), "depth is a whole number"),
        (lambda: theory.trajectory("tanh", 10**7, weight_var=1.0), "depth is a whole number"),
        (lambda: theory.trajectory("tanh", 20_000, weight_var=1.0, c0=0.5), "to 10000"),
        (
            lambda: theory.trajectory("tanh", 2, weight_var=1.0, widths=[3, 4]),
            "3 positive widths; got 2",
        ),
        (lambda: theory.trajectory("tanh", 1, weight_var=1.0, widths=[3, 0]), "a width is a whole"),
        (lambda: theory.critical_line("tanh", []), "q is empty"),
        (lambda: theory.residual("relu", 3, branch_scale="a"), "branch_scale is a finite number"),
        (lambda: theory.transform("tanh", depth=5, zeta=None), "zeta is a finite number"),
        (lambda: theory.finite_width("tanh", widths=[1, "a"]), "a width is a whole number"),
    ],
)
def test_refused(ask: Callable[[], object], told: str) -> None:
    with pytest.raises(InputError, match=told):
        ask()


def _nothing(x: Any) -> Any:
    return 0 * x


def _constant(x: Any) -> Any:
    return 0 * x + 3.0


@pytest.mark.parametrize("act", [_nothing, _constant])
def test_no_gradient_no_critical_point(act: object) -> None:
    found = theory.critical(act)
    assert (found.verdict, found.weight_var) == ("none", None)
    assert "passes" in found.reason


def test_lengths_out_of_reach_of_their_product() -> None:
    """q q overflows and underflows long before q does."""
    for q in (1e-200, 1e200):
        assert theory.length_map("relu", q, weight_var=2.0) == pytest.approx(q, rel=1e-15)
    along = theory.trajectory("relu", 600, weight_var=0.6)
    assert along.q[-1] == pytest.approx(0.3**600, rel=1e-11)
    assert np.isfinite(theory.trajectory("relu", 1000, weight_var=3.8).q).all()
