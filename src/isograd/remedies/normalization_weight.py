"""normalization-weight: weights standardized in place of signals."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.remedies._code import loop, number, program
from isograd.remedies._drawing import misfit, unfit
from isograd.remedies._examples import example, plain
from isograd.remedies._layers import Layer, layers, stands_alone
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.theory import gains


@dataclass(frozen=True)
class NormalizationWeight(Remedy):
    """Standardize the weights.

    Does: wraps the hidden layers so that every unit's weights have mean 0 and the norm
        1/sqrt(Var phi) of the activation that the layer reads, exactly, at every step: signals
        keep unit variance without statistics of a batch, and no common mean builds up.

    Needs: hidden nn.Linear and nn.Conv layers that are used once, whose weights nothing computes,
        without a norm behind them, and most of whose gains are off. Gradients grow per layer by
        E phi'^2/Var phi as behind a batch norm: in deep stacks skips are to go with it.

    Source: Brock, De and Smith 2021, Characterizing signal propagation to close the performance gap
        in unnormalized ResNets, section 4; Qiao et al. 2019, Weight standardization.
    """

    code: ClassVar[str] = "normalization-weight"
    family: ClassVar[str] = "normalization"
    addresses: ClassVar[tuple[str, ...]] = (
        "missing-normalization",
        "gain-mismatch",
        "init-too-small",
        "init-too-large",
    )

    def plan(self, case: Case) -> Plan | str:
        """Finds the layers and their gains."""
        found = layers(case)
        reason = unfit(found, lambda x: misfit(x, _gain(x)))
        if reason:
            return reason
        own = [x for x in found if not x.output and not x.normalized and stands_alone(case, x)]
        fitting = [x for x in own if not x.computed]
        if not fitting and own:
            how = ", ".join(sorted({x.computed.by for x in own if x.computed}))
            return (
                f"the weights of its {len(own)} hidden layers are computed already, by {how}: "
                "take that off first"
            )
        if not fitting:
            return "none of its hidden layers is an nn.Linear or nn.Conv module that is used once"
        lines = []
        for gain in sorted({_gain(x) for x in fitting}):
            names = [x.module for x in fitting if _gain(x) == gain]
            new = f"WeightStandardized(model.get_submodule(name), {number(gain)})"
            lines.append(loop("name", names, f"model.set_submodule(name, {new})"))
        return Plan(
            self.code,
            f"The outputs of {len(fitting)} layers keep unit variance, now and while they learn.",
            program(*lines),
            keys="NAME.weight becomes NAME.layer.weight, and NAME.factor is new, for each layer.",
        )

    @staticmethod
    def sick() -> Case:
        """Twelve ReLU layers at torch's default."""
        return example(plain)

    @staticmethod
    def well() -> Case:
        """The same with the gain that the remedy would give."""
        return example(lambda: plain(gain=gains("relu").std))


def _gain(layer: Layer) -> float:
    return gains(layer.reads).std if layer.reads is not None else 1.0
