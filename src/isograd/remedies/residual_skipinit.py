"""residual-skipinit: a learned scale on every branch, zero at the start."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.remedies._branches import branches, ends, fine
from isograd.remedies._code import loop, number, program
from isograd.remedies._examples import classes, example, residual
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class ResidualSkipinit(Remedy):
    """Give every residual branch a learned scale that starts at zero.

    Does: puts a factor behind the last layer of each branch, one parameter that starts at 0: all
        blocks are the identity at the start, as with zero last layers, but every layer keeps its
        own initialization and learns from the second step on (SkipInit, ReZero).

    Needs: at least `fewest` residual additions, none of them with the norm behind the sum, whose
        last layers are modules called with their own forward (the projection inside torch's
        attention is none), and a stream that grows by more than `worth`.

    Source: De and Smith 2020, Batch normalization biases residual blocks towards the identity
        function in deep networks (SkipInit); Bachlechner et al. 2021, ReZero is all you need.
    """

    code: ClassVar[str] = "residual-skipinit"
    family: ClassVar[str] = "residual"
    addresses: ClassVar[tuple[str, ...]] = ("unscaled-residual",)

    fewest: int = 4
    """Branches: fewer cannot add up to much."""
    worth: float = 4.0
    """Growth of the stream: below it a normalized network is fine as it is."""
    start: float = 0.0
    """The factor's first value."""

    def plan(self, case: Case) -> Plan | str:
        """Finds the modules that end the branches."""
        found = branches(case)
        if reason := fine(found, self.fewest, self.worth):
            return reason
        names = ends(case, found)
        if isinstance(names, str):
            return f"{names} is used inside another module's call: residual-scale fits"
        body = f"model.set_submodule(name, Scaled(model.get_submodule(name), {number(self.start)}))"
        return Plan(
            self.code,
            f"All {len(found)} blocks are the identity at the start, and let go at a learned pace.",
            program(loop("name", names, body)),
            keys="For each last layer NAME.weight becomes NAME.body.weight, and NAME.scale is new.",
        )

    @staticmethod
    def sick() -> Case:
        """Twenty blocks whose branches are as large as their stream."""
        return example(lambda: residual(20, 1.0), classes)

    @staticmethod
    def well() -> Case:
        """Twenty scaled ones."""
        return example(lambda: residual(20, 20**-0.5), classes)
