"""residual-fixup: branches scaled by their own number of layers and the depth."""

from dataclasses import dataclass, replace
from typing import ClassVar

from isograd.remedies._branches import branches, ends, fine, unset
from isograd.remedies._code import loop, number, program
from isograd.remedies._examples import classes, example, residual
from isograd.remedies._layers import layers
from isograd.remedies._remedy import FAMILIES, Case, Plan, Remedy


@dataclass(frozen=True)
class ResidualFixup(Remedy):
    """Initialize residual branches by Fixup.

    Does: multiplies the weights inside each branch of m layers by N^(-1/(2m-2)), N the number of
        branches, and sets its last layer and the network's last layer to zero: one step of
        gradient descent then changes the outputs by about as much as in a shallow network. Only
        values change; with `multipliers` each branch also ends in the paper's learned scalar, which
        lets weight decay act as in a network with norms. Existing biases serve as its biases.

    Needs: at least `fewest` residual branches of two and more layers without norms, over which the
        stream grows by more than `worth`.

    Source: Zhang, Dauphin and Ma 2019, Fixup initialization: residual learning without
        normalization, section 3.
    """

    code: ClassVar[str] = "residual-fixup"
    family: ClassVar[str] = "residual"
    addresses: ClassVar[tuple[str, ...]] = ("unscaled-residual",)

    fewest: int = 4
    """Branches: fewer cannot add up to much."""
    worth: float = 4.0
    """Growth of the stream that is worth it."""
    multipliers: bool = False
    """Whether each branch is multiplied by a parameter that starts at one."""

    @property
    def invasive(self) -> int:
        """As an initialization, where only values change."""
        return FAMILIES.index(self.family if self.multipliers else "init")

    def plan(self, case: Case) -> Plan | str:
        """Counts the layers of every branch."""
        found = branches(case)
        if reason := fine(found, self.fewest, self.worth) or unset(case):
            return reason
        if any(b.normed for b in found):
            return "norms set the scale of its branches, and Fixup is for networks without"
        if any(len(b.layers) < 2 for b in found):
            return "a branch of one layer has nothing to share the scale with: see residual-zero"
        lines = []
        for m in sorted({len(b.layers) for b in found}):
            inner = [x.name for b in found if len(b.layers) == m for x in b.layers[:-1]]
            scale = len(found) ** (-1 / (2 * m - 2))
            body = f"model.get_parameter(name).detach().mul_({number(scale)})"
            lines += [f"# {len(found)} branches of {m} layers", loop("name", inner, body)]
        zero = [name for b in found for name in b.last]
        zero += [n for x in layers(case) if x.output for n in (x.name, x.bias) if n]
        zero = list(dict.fromkeys(zero))
        lines.append(loop("name", zero, "nn.init.zeros_(model.get_parameter(name))"))
        keys = ""
        if self.multipliers:
            names = ends(case, found)
            if isinstance(names, str):
                return f"{names} is used inside another module's call, where no multiplier fits"
            body = "model.set_submodule(name, Scaled(model.get_submodule(name), 1.0))"
            lines.append(loop("name", names, body))
            keys = (
                "For each last layer NAME.weight becomes NAME.body.weight, and NAME.scale is new."
            )
        return Plan(
            self.code,
            f"All {len(found)} blocks are the identity at the start, and one step changes the "
            "outputs as in a shallow network.",
            program(*lines),
            keys=keys,
        )

    def variants(self) -> tuple[Remedy, ...]:
        """Values alone, then with multipliers."""
        return (self, replace(self, multipliers=not self.multipliers))

    @staticmethod
    def sick() -> Case:
        """Twenty blocks whose branches are as large as their stream."""
        return example(lambda: residual(20, 1.0), classes)

    @staticmethod
    def well() -> Case:
        """Twenty scaled ones."""
        return example(lambda: residual(20, 20**-0.5), classes)
