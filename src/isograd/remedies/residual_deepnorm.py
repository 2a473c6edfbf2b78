"""residual-deepnorm: an initialization that lets post-norm transformers be deep."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from isograd.remedies._branches import asks, branches, post_norm
from isograd.remedies._code import loop, number, program
from isograd.remedies._examples import example
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class ResidualDeepnorm(Remedy):
    """Initialize a post-norm network by DeepNorm.

    Does: draws the weights of every branch by Xavier's law, those of values, output projections and
        feed-forward layers with gain beta = (4N)^(-1/4), N the number of branches (twice the
        layers), and divides the branch's last layer by alpha = N^(1/4) besides: a norm behind the
        sum does not see a common factor, so that LN(x + f/alpha) is the paper's LN(alpha x + f).
        Only values change.

    Needs: at least `fewest` residual additions that a norm alone reads (post-norm).

    Source: Wang et al. 2022, DeepNet: scaling transformers to 1,000 layers, sections 3 and 4
        (encoder or decoder alone).
    """

    code: ClassVar[str] = "residual-deepnorm"
    family: ClassVar[str] = "residual"
    addresses: ClassVar[tuple[str, ...]] = ("norm-placement",)

    fewest: int = 12
    """Branches, two per layer: shallower post-norm networks train as they are."""

    def plan(self, case: Case) -> Plan | str:
        """Finds post-norm branches, and which of their weights are values."""
        found = branches(case)
        post = [b for b in found if b.post_norm]
        if len(post) < self.fewest or not post_norm(found):
            return (
                f"{len(post)} of its {len(found)} residual additions have a norm behind them; "
                f"it is for post-norm networks from {self.fewest} on"
            )
        count = len(post)
        beta, alpha = (4 * count) ** -0.25, count**0.25
        lines = []
        for gain in (1.0, beta):
            names = [x.name for b in post for x in b.layers if asks(x) == (gain == 1.0)]
            body = f"nn.init.xavier_normal_(model.get_parameter(name), gain={number(gain)})"
            if names:
                lines.append(loop("name", names, body))
        stacked = [x.name for b in post for x in b.layers if x.blocks == 3]
        if stacked:
            lines.append(loop("name", stacked, _VALUES.format(beta=number(beta))))
        lasts = list(dict.fromkeys(n for b in post for n in b.last if not _is_bias(n)))
        body = f"model.get_parameter(name).detach().div_({number(alpha)})"
        lines += [f"# alpha = {count}^(1/4)", loop("name", lasts, body)]
        return Plan(
            self.code,
            f"The update of the outputs stays bounded over {count} post-norm sublayers.",
            program(*lines),
            notes=("The weights of the branches are drawn anew.",),
        )

    @staticmethod
    def sick() -> Case:
        """Eight post-norm layers."""
        return example(lambda: _Encoder(8), _sequences)

    @staticmethod
    def well() -> Case:
        """Two."""
        return example(lambda: _Encoder(2), _sequences)


def _is_bias(name: str) -> bool:
    return name.rpartition(".")[2].endswith("bias")


_VALUES = """\
# one above the other: torch's attention has all three in one matrix
query, key, value = model.get_parameter(name).detach().chunk(3)
nn.init.xavier_normal_(query)
nn.init.xavier_normal_(key)
nn.init.xavier_normal_(value, gain={beta})"""


class _Encoder(nn.Module):
    def __init__(self, depth: int) -> None:
        super().__init__()
        layer = nn.TransformerEncoderLayer(12, 2, 20, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, depth)
        self.head = nn.Linear(12, 5)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.encoder(x).mean(1))
        return out


def _sequences() -> tuple[Tensor, Tensor]:
    return torch.randn(6, 7, 12), torch.randint(5, (6,))
