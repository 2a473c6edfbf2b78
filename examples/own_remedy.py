"""A remedy of one's own: a class that plans a change as code, and a test of it.

pytest examples/own_remedy.py

Once the package that holds it is installed with

    [project.entry-points."isograd.remedies"]
    dropout = "yourpackage.own_remedy:LessDropout"

in its pyproject.toml, `isograd.repair` tries it wherever a finding names one of its causes, and
`isograd.remedies.apply("less-dropout", model, batch)` applies it alone.
"""

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from isograd.remedies import Case, Plan, Remedy, case_of
from isograd.testing import check_remedy


@dataclass(frozen=True)
class LessDropout(Remedy):
    """Take most of the dropout out of a deep network.

    Does: sets the probability of every dropout module that drops more than `most` to `most`.

    Needs: a module nn.Dropout that drops more.

    Source: Schoenholz et al. 2017, Deep information propagation, section 5 (dropout bounds the
        depth to which information travels).
    """

    code: ClassVar[str] = "less-dropout"
    family: ClassVar[str] = "activation"
    addresses: ClassVar[tuple[str, ...]] = ("missing-normalization", "missing-residual")

    most: float = 0.05
    """At 0.1 the correlation of two inputs is forgotten within some ten layers."""

    def plan(self, case: Case) -> Plan | str:
        """Finds the modules."""
        drops = {n: m.p for n, m in case.model.named_modules() if isinstance(m, nn.Dropout)}
        names = [name for name, p in drops.items() if p > self.most]
        if not names:
            return f"none of its {len(drops)} dropout modules drops more than {self.most:.0%}"
        return Plan(
            self.code,
            f"{len(names)} modules drop {self.most:.0%} in place of {max(drops.values()):.0%}.",
            f"for name in {names}:\n    model.get_submodule(name).p = {self.most}",
        )

    @staticmethod
    def sick() -> Case:
        """One that drops half."""
        return _case(0.5)

    @staticmethod
    def well() -> Case:
        """One that drops nothing."""
        return _case(0.0)


def _case(p: float) -> Case:
    model = nn.Sequential(nn.Linear(5, 9), nn.ReLU(), nn.Dropout(p), nn.Linear(9, 3))
    return case_of(model, (torch.randn(8, 5), torch.randint(3, (8,))))


def test_it_keeps_the_contract() -> None:
    check_remedy(LessDropout())
