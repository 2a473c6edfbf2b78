"""What a model does to its inputs by numbers that it knows is counted on the values themselves."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import isograd


def table(seed: int = 0) -> Tensor:
    """[96, 24]: columns with means and scales of their own."""
    generator = torch.Generator().manual_seed(seed)
    scales = torch.logspace(-1, 3, 24)
    return scales * (7 + torch.randn(96, 24, generator=generator))


class Own(nn.Module):
    """A network that prepares its inputs itself."""

    def __init__(self, prepare: Callable[[Tensor, Tensor, Tensor], Tensor]) -> None:
        super().__init__()
        self.prepare = prepare
        self.body = nn.Sequential(nn.Linear(24, 128), nn.Tanh(), nn.Linear(128, 5))
        self.register_buffer("mean", table(1).mean(0))
        self.register_buffer("std", table(1).std(0))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.body(self.prepare(x, self.mean, self.std))
        return out


def in_place(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return x.clone().sub_(mean).div_(std)


def in_parts(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return torch.reshape((x - mean)[:, None] / std, (96, 24))


def by_a_matrix(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    return torch.matmul(x - mean, torch.diag(1 / std))


@pytest.mark.parametrize("prepare", [in_place, in_parts, by_a_matrix])
def test_standardized_columns_are_predicted_as_measured(
    prepare: Callable[[Tensor, Tensor, Tensor], Tensor],
) -> None:
    torch.manual_seed(0)
    model, x = Own(prepare), table()
    batch = (x, torch.randint(5, (96,)))
    left = x.clone()
    seen, expected = isograd.measure(model, batch), isograd.predict(model, batch)
    for key, off in (("forward.rms", 0.12), ("backward.rms", 0.12), ("weight.grad_rms", 0.5)):
        for one, two in zip(seen.series[key], expected.series[key], strict=True):
            assert one is not None
            assert two == pytest.approx(one, rel=off), key
    assert torch.equal(x, left)  # also where the model writes in place
    assert isograd.check(model, batch).healthy


def test_a_copy_of_the_input_only_is_written_to() -> None:
    class Careless(Own):
        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.body(x.sub_(self.mean).div_(self.std))
            return out

    torch.manual_seed(0)
    x = table()
    left = x.clone()
    found = isograd.predict(Careless(in_place), (x, torch.randint(5, (96,))))
    assert torch.equal(x, left)
    assert found.series["forward.rms"][0] == pytest.approx(0.6, rel=0.1)


def test_what_is_drawn_or_weighted_in_between_is_not_given_any_more() -> None:
    torch.manual_seed(0)
    shift = torch.full((24,), 5.0)
    model = nn.Sequential(nn.Dropout(0.5), nn.Linear(24, 64, bias=False))
    x = torch.randn(64, 24) + shift
    record = isograd.predict(model, x)
    # 1/sqrt(3 n) weights of inputs of energy 26, half of which are doubled
    assert record.series["forward.rms"][-1] == pytest.approx((2 * 26 / 3) ** 0.5, rel=0.05)
