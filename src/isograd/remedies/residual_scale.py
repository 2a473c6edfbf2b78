"""residual-scale: branches of 1/sqrt(number of branches)."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.remedies._branches import Branch, branches, fine, growth, unset
from isograd.remedies._code import loop, number, program
from isograd.remedies._examples import classes, example, residual
from isograd.remedies._remedy import FAMILIES, Case, Plan, Remedy


@dataclass(frozen=True)
class ResidualScale(Remedy):
    """Scale the last layer of every residual branch by 1/sqrt(branches).

    Does: multiplies weight and bias of what ends each branch (a layer, an attention's output
        projection, or a norm) by 1/sqrt(N), N the number of branches: the stream then grows by a
        factor that does not depend on the depth. With two branches per block this is GPT-2's
        1/sqrt(2 blocks). Only values change, no module.

    Needs: at least `fewest` residual additions, none of them with the norm behind the sum, over
        which the stream grows by more than `worth`.

    Source: Hanin and Rolnick 2018, How to start training; Zhang, Dauphin and Ma 2019, Fixup
        initialization; Radford et al. 2019, Language models are unsupervised multitask learners,
        section 2.3.
    """

    code: ClassVar[str] = "residual-scale"
    family: ClassVar[str] = "residual"
    addresses: ClassVar[tuple[str, ...]] = ("unscaled-residual", "init-too-large")

    fewest: int = 4
    """Branches: fewer cannot add up to much."""
    worth: float = 4.0
    """Growth of the stream that norms and learning rates do not easily make up for: 15 branches as
    large as what normalized input gives reach it."""

    @property
    def invasive(self) -> int:
        """As an initialization: only values change."""
        return FAMILIES.index("init")

    def plan(self, case: Case) -> Plan | str:
        """Counts the branches, and how much they add."""
        found = branches(case)
        if reason := fine(found, self.fewest, self.worth) or unset(case):
            return reason
        names = list(dict.fromkeys(name for b in found for name in b.last))
        scale = len(found) ** -0.5
        body = f"model.get_parameter(name).detach().mul_({number(scale)})"
        return Plan(
            self.code,
            f"Over {len(found)} branches the stream grows by about x{number(_then(found))} in "
            f"place of x{number(growth(found))}, and the gradient likewise.",
            program(f"# 1/sqrt({len(found)} branches)", loop("name", names, body)),
        )

    @staticmethod
    def sick() -> Case:
        """Twenty blocks whose branches are as large as their stream."""
        return example(lambda: residual(20, 1.0), classes)

    @staticmethod
    def well() -> Case:
        """Twenty scaled ones."""
        return example(lambda: residual(20, 20**-0.5), classes)


def _then(found: list[Branch]) -> float:
    ratios = [b.ratio**2 / len(found) for b in found]
    return math.exp(sum(math.log1p(r) for r in ratios) / 2)
