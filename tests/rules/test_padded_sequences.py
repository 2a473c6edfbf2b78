"""What is lost inside of a recurrence is no matter of normalization."""

import pytest
import torch
from torch import nn

import isograd
from isograd import remedies
from isograd.errors import RemedyError


class Reader(nn.Module):
    """An LSTM whose last state is read."""

    def __init__(self) -> None:
        super().__init__()
        self.layer, self.head = nn.LSTM(8, 32, batch_first=True), nn.Linear(32, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        out: torch.Tensor = self.head(self.layer(x)[0][:, -1])
        return out


def padded(steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    x = torch.zeros(32, steps, 8)
    x[:, :15] = torch.randn(32, 15, 8)
    return x, torch.randint(4, (32,))


@pytest.mark.parametrize(("steps", "lost"), [(120, True), (16, False)])
def test_zeros_behind_a_sequence_are_forgetting(steps: int, *, lost: bool) -> None:
    torch.manual_seed(0)
    told = isograd.check(Reader(), padded(steps))
    causes = {f.cause for f in told.findings if f.severity.value != "info"}
    assert causes == ({"recurrent-jacobian"} if lost else set()), str(told)


def test_a_gradient_that_shrinks_over_time_is_not_clipped() -> None:
    torch.manual_seed(0)
    with pytest.raises(RemedyError, match="shrinks from time step to time step"):
        remedies.apply(
            "optimizer-clip", Reader(), padded(120),
            optimizer=lambda p: torch.optim.SGD(p, lr=0.1), max_norm=1e-3,
        )  # fmt: skip
