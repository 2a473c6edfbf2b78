"""Recurrent networks over 50 steps."""

from functools import partial

from torch import Tensor, nn

from patients.architectures.family import Family, gaussian

STEPS = 50


class Reader(nn.Module):
    """A projection, a recurrent layer, and a linear head that reads the last step."""

    def __init__(self, cell: type[nn.RNNBase], *, width: int = 256, features: int = 64):
        super().__init__()
        self.project = nn.Linear(features, width)
        self.recurrent = cell(width, width, batch_first=True)
        self.head = nn.Linear(width, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.recurrent(self.project(x))[0][:, -1])


FAMILIES = {
    name: Family(
        partial(Reader, cell), gaussian(16, STEPS, 64), {"width": 12, "features": 5},
        gaussian(3, 7, 5), seeds=512, note="width 256, 50 steps, last one read",
    )
    for name, cell in (("rnn50", nn.RNN), ("lstm50", nn.LSTM), ("gru50", nn.GRU))
}  # fmt: skip
