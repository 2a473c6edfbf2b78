"""The largest eigenvalue of the Hessian, against the whole Hessian."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call

from isograd.probe.sharpness import lambda_max
from isograd.sites.batches import as_batch

GENERATOR = torch.Generator().manual_seed(5)


class Quadratic(nn.Module):
    """w^T A w / 2, in two parameters."""

    def __init__(self, matrix: Tensor) -> None:
        super().__init__()
        self.matrix = matrix
        self.first = nn.Parameter(torch.ones(2, 3))
        self.second = nn.Parameter(torch.ones(len(matrix) - 6))

    def forward(self, x: Tensor) -> Tensor:
        w = torch.cat([self.first.flatten(), self.second])
        return w @ self.matrix @ w / 2 + 0 * x.sum()


def with_spectrum(values: list[float]) -> Tensor:
    basis, _ = torch.linalg.qr(torch.randn(len(values), len(values), generator=GENERATOR))
    return basis @ torch.diag(torch.tensor(values)) @ basis.T


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([7.0, 2.0, 1.0, 0.5, 0.1, 0.0, -1.0, -2.0, 0.3], 7.0),
        ([-7.0, 2.0, 1.0, 0.5, 0.1, 0.0, -1.0, -2.0, 0.3], 7.0),  # in magnitude
        ([1e-6, 1e-8, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1e-6),
        ([1e6, 1e3, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0], 1e6),
    ],
)
def test_a_quadratic(values: list[float], expected: float) -> None:
    model = Quadratic(with_spectrum(values))
    found = lambda_max(model, as_batch(torch.ones(5)), None, seed=0)
    assert found == pytest.approx(expected, rel=0.02)


def hessian_of(model: nn.Module, x: Tensor, y: Tensor, loss: Any) -> Tensor:
    """Eigenvalues of the whole Hessian in float64, its rows one at a time by autograd."""
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    parts = dict(model.named_parameters())
    sizes = [parts[name].numel() for name in names]
    flat = torch.cat([parts[name].detach().flatten() for name in names]).double()

    def value(vector: Tensor) -> Tensor:
        pieces = vector.split(sizes)
        own = {n: v.reshape(parts[n].shape) for n, v in zip(names, pieces, strict=True)}
        return loss(functional_call(model.double(), own, (x.double(),)), y)

    return torch.linalg.eigvalsh(torch.autograd.functional.hessian(value, flat))


@pytest.mark.parametrize("kind", ["cross_entropy", "mse", "frozen", "unused"])
def test_a_small_network(kind: str) -> None:
    """Power iteration stops at changes of 2 percent; a tenth is what it promises."""
    torch.manual_seed(0)
    x = torch.randn(29, 7, generator=GENERATOR)
    model = nn.Sequential(nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 3))
    y: Any = torch.randint(3, (29,), generator=GENERATOR)
    loss: Any = F.cross_entropy
    if kind == "mse":
        y, loss = torch.randn(29, 3, generator=GENERATOR).double(), F.mse_loss
    if kind == "frozen":
        model[0].requires_grad_(False)
    if kind == "unused":
        model.spare = nn.Linear(2, 2)  # its forward is of no use
        model.forward = lambda x: model[2](model[1](model[0](x)))
    found = lambda_max(model, as_batch((x, y.float() if kind == "mse" else y)), loss, seed=0)
    if kind == "unused":
        del model.forward, model.spare
    exact = hessian_of(model, x, y, loss)
    assert found == pytest.approx(float(exact.abs().max()), rel=0.1)


@pytest.mark.parametrize("seed", range(6))
def test_dropout_is_one_function_for_each_seed(seed: int) -> None:
    """Nearly all curvature is in one entry, which some masks drop."""
    x, y = torch.randn(29, 7, generator=GENERATOR), torch.randn(29, 1, generator=GENERATOR)
    x[3, 2] = 90.0
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(7, 1, bias=False))
    found = lambda_max(model, as_batch((x, y)), F.mse_loss, seed=seed)
    torch.manual_seed(seed)
    masked = F.dropout(x, 0.5)
    exact = torch.linalg.eigvalsh(2 * masked.T @ masked / 29).max()
    assert found == pytest.approx(float(exact), rel=0.15)


def test_buffers_are_put_back() -> None:
    model = nn.Sequential(nn.Linear(7, 5), nn.BatchNorm1d(5), nn.Linear(5, 3))
    state = {name: b.clone() for name, b in model.named_buffers()}
    x, y = torch.randn(29, 7, generator=GENERATOR), torch.zeros(29).long()
    assert lambda_max(model, as_batch((x, y)), None, seed=0) is not None
    assert all(torch.equal(b, state[name]) for name, b in model.named_buffers())
    assert all(p.grad is None for p in model.parameters())


class Kink(torch.autograd.Function):
    """The identity without a second derivative."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        return x.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.clone()


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, t: o.mean(),  # linear in the weights: no curvature
        lambda o, t: Kink.apply(o).square().mean(),
        lambda o, t: o.detach().mean(),
        lambda o, t: o,  # no scalar
        lambda o, t: (o * torch.inf).mean(),
    ],
)
def test_where_there_is_none(loss: Any) -> None:
    x, y = torch.randn(13, 7, generator=GENERATOR), torch.randn(13, 5, generator=GENERATOR)
    assert lambda_max(nn.Linear(7, 5), as_batch((x, y)), loss, seed=0) is None


def test_without_parameters_there_is_none() -> None:
    assert lambda_max(nn.Tanh(), as_batch(torch.ones(3, 2)), None, seed=0) is None
