"""Kinds of places: every torch function that has one is told by its name."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.overrides import TorchFunctionMode

from isograd.sites import (
    ACTIVATIONS,
    BOUNDED,
    ELEMENTWISE,
    KINDS,
    NORMS,
    RECTIFIERS,
    WEIGHTS,
    kind_of_function,
)
from isograd.theory.activations import activation


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("relu", "relu"),
        ("relu_", "relu"),
        ("leaky_relu_", "leaky_relu"),
        ("_threshold", "threshold"),
        ("log_sigmoid", "logsigmoid"),
        ("hardtanh", "hardtanh"),
        ("hardtanh_", "hardtanh"),
        ("linear", "linear"),
        ("bilinear", "linear"),
        ("conv2d", "conv"),
        ("conv_transpose3d", "conv"),
        ("__matmul__", "matmul"),
        ("addmm", "matmul"),
        ("einsum", "matmul"),
        ("scaled_dot_product_attention", "sdpa"),
        ("multi_head_attention_forward", "attention"),
        ("gru_cell", "recurrent"),
        ("rnn_tanh", "recurrent"),
        ("__iadd__", "add"),
        ("add_", "add"),
        ("adaptive_avg_pool2d", "pool"),
        ("max_pool1d", "pool"),
        ("embedding_bag", "embedding"),
        ("softmin", "softmax"),
        ("log_softmax", "log_softmax"),
        ("rms_norm", "rms_norm"),
        ("dropout2d", "dropout"),
        ("sub", None),
        ("mul", None),
        ("linear_", None),
        ("__get__", None),
        ("", None),
    ],
)
def test_the_kind_of_a_function(name: str, kind: str | None) -> None:
    assert kind_of_function(name) == kind


MODULES: list[tuple[nn.Module, str]] = [
    (nn.Linear(6, 3), "linear"),
    (nn.ReLU(), "relu"),
    (nn.ReLU(inplace=True), "relu"),
    (nn.LeakyReLU(), "leaky_relu"),
    (nn.PReLU(), "prelu"),
    (nn.RReLU(), "rrelu"),
    (nn.ELU(), "elu"),
    (nn.SELU(), "selu"),
    (nn.CELU(), "celu"),
    (nn.GELU(), "gelu"),
    (nn.SiLU(), "silu"),
    (nn.Mish(), "mish"),
    (nn.Softplus(), "softplus"),
    (nn.Sigmoid(), "sigmoid"),
    (nn.LogSigmoid(), "logsigmoid"),
    (nn.Tanh(), "tanh"),
    (nn.Hardtanh(), "hardtanh"),
    (nn.Hardswish(), "hardswish"),
    (nn.Hardsigmoid(), "hardsigmoid"),
    (nn.Softsign(), "softsign"),
    (nn.Hardshrink(), "hardshrink"),
    (nn.Softshrink(), "softshrink"),
    (nn.Tanhshrink(), "tanhshrink"),
    (nn.Threshold(0.1, 2.0), "threshold"),
    (nn.GLU(), "glu"),
    (nn.Softmax(1), "softmax"),
    (nn.Softmin(1), "softmax"),
    (nn.LogSoftmax(1), "log_softmax"),
    (nn.LayerNorm(6), "layer_norm"),
    (nn.RMSNorm(6), "rms_norm"),
    (nn.BatchNorm1d(6), "batch_norm"),
    (nn.GroupNorm(2, 6), "group_norm"),
    (nn.Dropout(), "dropout"),
    (nn.AlphaDropout(), "dropout"),
    (nn.FeatureAlphaDropout(), "dropout"),
]


@pytest.mark.parametrize(("module", "kind"), MODULES, ids=lambda value: repr(value)[:40])
def test_torchs_modules_call_functions_of_their_kind(module: nn.Module, kind: str) -> None:
    """The names are those that torch hands to a function mode, whatever version is installed."""
    names: list[str] = []

    class Listening(TorchFunctionMode):
        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            names.append(getattr(func, "__name__", ""))
            return func(*args, **(kwargs or {}))

    with Listening():
        module(torch.ones(4, 6))
    assert kind in {kind_of_function(name) for name in names}, names


def test_the_families_fit_together() -> None:
    assert ELEMENTWISE < ACTIVATIONS < KINDS
    assert BOUNDED < ELEMENTWISE
    assert RECTIFIERS < ELEMENTWISE
    assert NORMS < KINDS
    assert WEIGHTS < KINDS
    assert not ACTIVATIONS & (NORMS | WEIGHTS)
    assert not BOUNDED & RECTIFIERS


@pytest.mark.parametrize("name", sorted(ELEMENTWISE - {"rrelu"}))
def test_families_are_what_their_slopes_say(name: str) -> None:
    """Bounded: flat far out on both sides. Rectifier: exactly flat on a whole range."""
    function = getattr(F, name, None) or getattr(torch, name)
    given = {"threshold": (0.0, 0.0), "prelu": (torch.tensor([0.25]),)}.get(name, ())
    x = torch.linspace(-40, 40, 4001, requires_grad=True)
    (slope,) = torch.autograd.grad(function(x, *given).sum(), x)
    far = (slope[:500].abs().max(), slope[-500:].abs().max())
    if name not in ("sin", "cos", "relu6"):  # relu6 counts as a rectifier
        assert (name in BOUNDED) == (max(far) < 0.01)
    if name in RECTIFIERS:
        assert float((slope == 0).double().mean()) > 0.01
    activation(name)  # theory knows it
