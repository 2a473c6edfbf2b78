"""Gaussian codes among outputs: found by the loss, and what they could tell, by closed forms."""

import copy
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd
from isograd.remedies import WeightedCode
from isograd.sites.codes import at_prior, gaussian_code

Outputs = tuple[Tensor, Tensor, Tensor]


def divergence(mean: Tensor, spread: Tensor) -> Tensor:
    return 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1)


def outputs(samples: int = 64) -> tuple[Outputs, Tensor]:
    torch.manual_seed(0)
    wanted = torch.randn(samples, 2) @ torch.diag(torch.tensor([2.0, 0.5])) @ torch.randn(2, 12)
    code = 0.3 * torch.randn(2, samples, 3)
    return (torch.zeros(samples, 12), code[0], code[1]), wanted


@pytest.mark.parametrize("summed", [False, True])
@pytest.mark.parametrize("weight", [0.1, 4.0])
def test_what_a_code_may_cost_is_the_variance_along_the_first_component(
    weight: float, summed: bool
) -> None:
    # A squared error c |x - r|^2 has sigma^2 = 1/(2 c); the code tells something below
    # lambda/sigma^2 = 2 c lambda (Tipping and Bishop 1999; Lucas et al. 2019).
    out, wanted = outputs()
    factor = 64 if summed else 1

    def loss(o: Outputs, y: Tensor) -> Tensor:
        squares = 0.7 * (o[0] - y).square().sum(1).mean()
        return factor * (squares + weight * divergence(o[1], o[2]).mean())

    code = gaussian_code(loss, out, wanted)
    assert code is not None
    assert code.places == ((1, 0, 3), (2, 0, 3))
    assert code.weight * 64 / factor == pytest.approx(weight, rel=1e-4)
    largest = float(torch.linalg.eigvalsh(torch.cov(wanted.T.double(), correction=0))[-1])
    assert code.reach * 64 / factor == pytest.approx(2 * 0.7 * largest, rel=1e-4)


def test_a_code_in_one_tensor_with_the_answer_is_found_beside_entries_that_are_always_zero() -> (
    None
):
    (answer, mean, spread), wanted = outputs()
    wanted[:, 5] = 0.0  # its gradient is as linear as that of a mean
    answer = 0.1 * torch.randn_like(answer)

    def loss(o: Tensor, y: Tensor) -> Tensor:
        return F.mse_loss(o[:, :12], y) + divergence(o[:, 12:15], o[:, 15:]).sum()

    joined = torch.cat((answer, mean, spread), 1)
    code = gaussian_code(loss, joined, wanted)
    assert code is not None
    assert code.places == ((0, 12, 18),)
    assert code.weight == pytest.approx(1.0, rel=1e-4)
    assert bool((at_prior(joined, code.places)[:, 12:] == 0).all())
    assert torch.equal(at_prior(joined, code.places)[:, :12], answer)


@pytest.mark.parametrize(
    "loss",
    [
        lambda o, y: F.mse_loss(o[0], y),  # no divergence
        lambda o, y: F.mse_loss(o[0], y) + o[1].square().mean() + o[2].square().mean(),
        lambda o, y: F.l1_loss(o[0], y) + divergence(o[1], o[2]).mean(),  # no curvature
        lambda o, y: F.mse_loss(o[0], y) + divergence(o[1], o[2] + torch.randn_like(o[2])).mean(),
    ],
)
def test_what_is_no_gaussian_code_is_none(loss: Callable[[Outputs, Tensor], Tensor]) -> None:
    out, wanted = outputs()
    assert gaussian_code(loss, out, wanted) is None
    assert gaussian_code(loss, out[:1], wanted) is None


def test_a_divergence_that_counts_less_is_the_loss_with_that_weight() -> None:
    (answer, mean, spread), wanted = outputs()
    given = [answer, mean.requires_grad_(), spread.requires_grad_()]

    def loss(weight: float) -> Callable[[Outputs, Tensor], Tensor]:
        return lambda o, y: F.mse_loss(o[0], y) + weight * divergence(o[1], o[2]).mean()

    answer.requires_grad_()
    changed = WeightedCode(loss(1.0), 0.03, ((1, 0, 3), (2, 0, 3)))
    for mine in (changed, loss(0.03)):
        value = mine(tuple(given), wanted)
        found = torch.autograd.grad(value, given)
        if mine is changed:
            first = value, found
    assert float(first[0].detach()) == pytest.approx(float(value.detach()), rel=1e-5)
    for a, b in zip(first[1], found, strict=True):  # the last is that of the plain loss
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-8)


class Autoencoder(nn.Module):
    """A linear one."""

    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(12, 4), nn.Linear(2, 12)

    def forward(self, x: Tensor) -> Outputs:
        mean, spread = self.into(x).chunk(2, 1)
        drawn = mean + torch.randn_like(mean) * (spread / 2).exp()
        return self.back(drawn), mean, spread


def test_a_code_collapses_where_it_is_said_to_and_a_repair_brings_it_back() -> None:
    _, x = outputs(256)
    torch.manual_seed(1)
    model = Autoencoder()

    def loss(weight: float) -> Callable[[Outputs, Tensor], Tensor]:
        return lambda o, y: F.mse_loss(o[0], y) + weight * divergence(o[1], o[2]).mean()

    seen = isograd.measure(model, (x, x), loss(1.0))
    limit = 256 * seen.fact("loss.code_reach")
    told = {}
    for part in (1.3, 0.3):
        own = copy.deepcopy(model)
        adam = torch.optim.Adam(own.parameters(), 0.02)
        for _ in range(400):
            adam.zero_grad()
            loss(part * limit)(own(x), x).backward()
            adam.step()
        told[part] = float(divergence(*own(x)[1:]).mean().detach())
    assert told[1.3] < 0.02
    assert told[0.3] > 0.3

    batches = [(part, part) for part in x.split(32)]
    adam_of = lambda p: torch.optim.Adam(p, 0.02)  # noqa: E731
    for weight, expected in ((10 * limit, ("loss-code",)), (0.1 * limit, ())):
        done = isograd.repair(model, batches[0], loss(weight), optimizer=adam_of, data=batches)
        assert done.remedies == expected, str(done)
        assert bool(expected) or done.verdict == "healthy"
