"""residual-zero: branches that start as nothing."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.remedies._branches import branches, fine, unset
from isograd.remedies._code import loop, program
from isograd.remedies._examples import classes, example, residual
from isograd.remedies._remedy import FAMILIES, Case, Plan, Remedy


@dataclass(frozen=True)
class ResidualZero(Remedy):
    """Start the last layer or norm of every residual branch at zero.

    Does: sets the last weight and bias of each branch to zero, or the last norm's gain and bias
        where the branch ends in one: every block is the identity at the start, and signal and
        gradient pass any depth unchanged. Only values change. The first step moves the last layers
        alone; the others follow.

    Needs: at least `fewest` residual additions, none of them with the norm behind the sum, branches
        that do not start at zero yet, and a stream that grows by more than `worth`.

    Source: Goyal et al. 2017, Accurate, large minibatch SGD, section 5.1 (zero gamma); Zhang,
        Dauphin and Ma 2019, Fixup initialization; De and Smith 2020, Batch normalization biases
        residual blocks towards the identity function in deep networks.
    """

    code: ClassVar[str] = "residual-zero"
    family: ClassVar[str] = "residual"
    addresses: ClassVar[tuple[str, ...]] = ("unscaled-residual",)

    fewest: int = 4
    """Branches: fewer cannot add up to much."""
    worth: float = 4.0
    """Growth of the stream: below it a normalized network is fine as it is."""

    @property
    def invasive(self) -> int:
        """As an initialization: only values change."""
        return FAMILIES.index("init")

    def plan(self, case: Case) -> Plan | str:
        """Finds what ends the branches."""
        found = branches(case)
        if reason := fine(found, self.fewest, self.worth) or unset(case):
            return reason
        names = list(dict.fromkeys(name for b in found for name in b.last))
        return Plan(
            self.code,
            f"All {len(found)} blocks are the identity at the start: neither signal nor gradient "
            "changes its size over depth.",
            program(loop("name", names, "nn.init.zeros_(model.get_parameter(name))")),
        )

    @staticmethod
    def sick() -> Case:
        """Twenty blocks whose branches are as large as their stream."""
        return example(lambda: residual(20, 1.0), classes)

    @staticmethod
    def well() -> Case:
        """Twenty scaled ones."""
        return example(lambda: residual(20, 20**-0.5), classes)
