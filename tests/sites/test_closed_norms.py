"""Norms that multiply by zero where nothing goes around them: their gradients are the witness."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import isograd
from isograd import remedies
from isograd.records import Reading
from isograd.rules import RULES, Passed
from isograd.sites.paths import closed_norms


def normed(norm: Callable[[int], nn.Module], act: type[nn.Module], *zero: int) -> nn.Sequential:
    """Two hidden layers with norms, those in `zero` with weights of zero."""
    body: list[nn.Module] = []
    for k, (a, b) in enumerate(((9, 13), (13, 11))):
        made = norm(b)
        if k in zero:
            nn.init.zeros_(made.weight)  # type: ignore[arg-type]
        body += [nn.Linear(a, b), made, act()]
    return nn.Sequential(*body, nn.Linear(11, 4))


class OnePlusRMSNorm(nn.Module):
    """A norm that multiplies by 1 + weight."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(size))

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.rms_norm(x, x.shape[-1:], 1 + self.weight)


class Around(nn.Module):
    """A residual branch that ends in a norm of zero."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.norm = nn.Linear(9, 9), nn.BatchNorm1d(9)
        nn.init.zeros_(self.norm.weight)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.norm(self.inner(x)))


BATCH, LAYER, TANH, RELU = nn.BatchNorm1d, nn.LayerNorm, nn.Tanh, nn.ReLU


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (lambda: normed(BATCH, TANH, 0, 1), ["1.weight", "4.weight"]),
        (lambda: normed(LAYER, RELU, 0, 1), ["1.weight", "4.weight"]),
        (lambda: normed(BATCH, RELU, 1), ["4.weight"]),
        (lambda: normed(BATCH, TANH, 1), []),  # alone, and nothing dies of it: it opens
        (lambda: normed(BATCH, RELU), []),
        (lambda: normed(OnePlusRMSNorm, RELU, 0, 1), []),
        (lambda: nn.Sequential(Around(), Around(), Around(), nn.Linear(9, 4)), []),
    ],
)
def test_norms_that_keep_the_signal_from_passing_are_named_and_opened(
    model: Callable[[], nn.Module], names: list[str]
) -> None:
    torch.manual_seed(3)
    made, batch = model(), (torch.randn(31, 9), torch.arange(31) % 4)
    record = isograd.measure(made, batch)
    assert [record.parameters[p].name for p in closed_norms(record)] == names
    nn.functional.cross_entropy(made(batch[0]), batch[1]).backward()
    head = [name for name, _ in made.named_children()][-1]
    grads = {n: float(p.grad.abs().max()) for n, p in made.named_parameters() if p.grad is not None}
    hidden = [g for n, g in grads.items() if n.endswith("weight") and n.partition(".")[0] != head]
    stuck = max(hidden) < 1e-4 * max(grads.values())
    assert stuck == bool(names)
    found = RULES["IG301"].judge(Reading(record))
    assert isinstance(found, Passed) if not names else list(found.sites) == names  # type: ignore[union-attr]
    if names:
        remedies.apply("init-symmetry", made, batch)
        left = dict(made.named_parameters())
        assert all(bool((left[name] == 1).all()) for name in names)
        assert not closed_norms(isograd.measure(made, batch))


def test_a_norm_of_zero_that_is_frozen_never_opens() -> None:
    model = normed(BATCH, TANH, 1)
    batch = (torch.randn(31, 9), torch.arange(31) % 4)
    assert not closed_norms(isograd.measure(model, batch))
    model[4].weight.requires_grad_(False)  # type: ignore[operator]
    assert closed_norms(isograd.measure(model, batch))
