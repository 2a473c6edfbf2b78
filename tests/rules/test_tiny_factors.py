"""Products of factors that start near zero are no step that was too large."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

import isograd


class Factors(nn.Module):
    """The product of two embeddings, as of users and things."""

    def __init__(self, std: float) -> None:
        super().__init__()
        self.users, self.things = nn.Embedding(80, 8), nn.Embedding(60, 8)
        self.bias = nn.Parameter(torch.zeros(1))
        for table in (self.users, self.things):
            nn.init.normal_(table.weight, 0, std)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.users(x[:, 0]) * self.things(x[:, 1])).sum(1) + self.bias
        return out


def test_outputs_that_never_differed_were_not_thrown_off() -> None:
    torch.manual_seed(0)
    u, v = torch.randn(80, 4), torch.randn(60, 4)
    ids = torch.stack((torch.randint(80, (2000,)), torch.randint(60, (2000,))), 1)
    y = ((u[ids[:, 0]] * v[ids[:, 1]]).sum(1) > 0.3).float()
    batches = list(zip(ids.split(64), y.split(64), strict=True))
    for std, cause in ((1e-4, "init-too-small"), (1.0, None)):
        told = isograd.check(
            Factors(std), batches[0], F.binary_cross_entropy_with_logits, data=batches, steps=60,
            optimizer=lambda p: torch.optim.SGD(p, lr=1.0),
        )  # fmt: skip
        found = next((f.cause for f in told.findings if f.severity.value != "info"), None)
        assert found == cause, str(told)
