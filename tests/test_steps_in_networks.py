"""Functions of steps in a network: no gradient comes through, unless it is let through."""

import pytest
import torch
from torch import nn

import isograd


class Quantized(nn.Module):
    """A network whose hidden layer is rounded, as it is or with the gradient let through."""

    def __init__(self, *, through: bool) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b, self.through = nn.Linear(20, 64), nn.Linear(64, 5), through

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = torch.relu(self.a(x))
        return self.b(x + (x.round() - x).detach() if self.through else x.round())


@pytest.mark.parametrize("through", [False, True])
def test_no_gradient_comes_through_steps(through: bool) -> None:
    """Autograd gives zeros behind them, not None: which only looks as if it were a gradient."""
    batch = torch.randn(64, 20), torch.randint(5, (64,))
    found = isograd.check(Quantized(through=through), batch).findings
    assert [f.code for f in found][:1] == ([] if through else ["IG103"])
    if not through:
        assert "2 of 4 trainable parameters" in found[0].message
        assert "`round`" in found[0].message


def test_weights_of_zero_are_not_blamed_on_steps() -> None:
    model = Quantized(through=True)
    nn.init.zeros_(model.b.weight)
    batch = torch.randn(64, 20), torch.randint(5, (64,))
    codes = [f.code for f in isograd.check(model, batch).findings]
    assert "IG103" not in codes
