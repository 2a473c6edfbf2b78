"""loss-code: a divergence that leaves a variational autoencoder something to tell."""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.remedies._code import number, program
from isograd.remedies._examples import example
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class LossCode(Remedy):
    """Weigh the divergence of a Gaussian code so that the code tells something.

    Does: multiplies what the divergence of the code from N(0, 1) adds to the loss, so that it is
        `share` of what the loss gains along the direction in which the targets differ most. Means
        and log-variances are found among the outputs.

    Needs: a loss that was handed in, with outputs that hold a Gaussian code, and a weight of its
        divergence above which a constant answer is the best there is.

    Source: Lucas et al. 2019, Don't blame the ELBO! A linear VAE perspective on posterior collapse;
        Higgins et al. 2017, beta-VAE (the weight).
    """

    code: ClassVar[str] = "loss-code"
    family: ClassVar[str] = "loss"
    addresses: ClassVar[tuple[str, ...]] = ("loss-mismatch",)

    share: float = 0.1
    """Of the gain along the largest direction: those with a tenth of its variance are told, too."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at the weight of the divergence."""
        record = case.record
        places = record.fact("loss.code")
        weight, reach = record.fact("loss.code_weight"), record.fact("loss.code_reach")
        if not places or weight is None or not reach:
            return "no Gaussian code is among the outputs"
        if weight < reach:
            return (
                f"the divergence of the code weighs {number(weight)}, below the {number(reach)} "
                "from which it tells nothing"
            )
        told = tuple(tuple(int(n) for n in place) for place in places)
        factor = number(self.share * reach / weight)
        return Plan(
            self.code,
            f"The code's divergence weighs {number(self.share * reach)} in place of "
            f"{number(weight)}: from {number(reach)} on the code tells nothing.",
            program(f"loss = WeightedCode(loss, {factor}, code={told})"),
            given={"loss": case.loss},
            notes=(f"The same in your code: multiply the divergence by {factor}.",),
        )

    @staticmethod
    def sick() -> Case:
        """Squares that are averaged over the entries."""
        return example(_Autoencoder, _pictures, lambda o, y: _squares(o, y) + _divergence(o))

    @staticmethod
    def well() -> Case:
        """Squares that are summed over them."""
        return example(
            _Autoencoder, _pictures, lambda o, y: 30 * F.mse_loss(o[0], y) + _divergence(o)
        )


def _squares(outputs: tuple[Tensor, Tensor, Tensor], targets: Tensor) -> Tensor:
    return F.mse_loss(outputs[0], targets)


def _divergence(outputs: tuple[Tensor, Tensor, Tensor]) -> Tensor:
    _, mean, spread = outputs
    return 0.5 * (mean.square() + spread.exp() - 1 - spread).sum(1).mean()


def _pictures() -> tuple[Tensor, Tensor]:
    x = 0.3 * torch.randn(48, 3) @ torch.randn(3, 30)
    return x, x


class _Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.into, self.back = nn.Linear(30, 6), nn.Linear(3, 30)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        mean, spread = self.into(x).chunk(2, 1)
        drawn = mean + torch.randn_like(mean) * (spread / 2).exp()
        return self.back(drawn), mean, spread
