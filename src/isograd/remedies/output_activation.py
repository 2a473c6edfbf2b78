"""output-activation: a last activation that blocks the loss taken away."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from isograd.remedies._activations import RANGES, aliases_of, last_activation
from isograd.remedies._code import loop, number, program
from isograd.remedies._examples import example, plain
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites import RECTIFIERS


@dataclass(frozen=True)
class OutputActivation(Remedy):
    """Take away a last activation that blocks the loss.

    Does: replaces the activation behind the last weight layer by the identity, so that outputs can
        take any value and every sample has a gradient; `by="softplus"` keeps outputs positive.
        Logits that are cosines are multiplied by `cosines`.

    Needs: a last activation that is a module of its own, and that is dead or saturated for most of
        the outputs, or cannot reach the targets. Behind a softmax or sigmoid whose loss is a
        likelihood, see loss-logits.

    Source: Bishop 1995, Neural networks for pattern recognition, sections 6.6 to 6.9 (what output
        goes with what error function); Wang et al. 2017, NormFace, section 3.2 (scale of cosines).
    """

    code: ClassVar[str] = "output-activation"
    family: ClassVar[str] = "activation"
    addresses: ClassVar[tuple[str, ...]] = ("output-activation", "dead-output")

    by: Literal["identity", "softplus"] = "identity"
    """Softplus is for targets that are never negative."""
    blocked: float = 0.5
    """Share of outputs, or of units, that pass no gradient: more is no chance."""
    cosines: float = 16.0
    """Ten classes then come to a loss of 1e-13 at best, and a thousand to 1e-11."""

    def plan(self, case: Case) -> Plan | str:
        """Finds the last activation, and whether it blocks."""
        record = case.record
        last = last_activation(case)
        if record.fact("output.cosines") and case.has("output-activation"):
            return self._scaled()
        if last is None:
            return "no activation stands between the last weight layer and the loss"
        site = record.sites[last]
        reason = self._blocks(case, last)
        if not reason and not case.has(*self.addresses):
            return f"{site.name} ({site.kind}) passes gradients and reaches all targets"
        names = aliases_of(case.model, site.name.split("#")[0])
        others = [s for s in record.sites if s.name.split("#")[0] == site.name.split("#")[0]]
        if not names:
            return (
                f"{site.name} is a function called in the forward, not a module: leave it out there"
            )
        if len(others) > 1:
            return f"{site.name} is also used between layers: give the output a module of its own"
        low = record.fact("target.min")
        if self.by == "softplus" and (low is None or low < 0):
            return f"the targets go down to {number(low or 0.0)}, and softplus is never negative"
        new = {"identity": "nn.Identity()", "softplus": "nn.Softplus()"}[self.by]
        return Plan(
            self.code,
            f"The loss reaches the last layer for every sample ({reason or 'now it does not'}).",
            program(loop("name", names, f"model.set_submodule(name, {new})")),
            notes=(f"Outputs are no longer those of {site.kind}.",),
        )

    def _scaled(self) -> Plan | str:
        if self.by != "identity":
            return "the logits are cosines, which are scaled"
        return Plan(
            self.code,
            f"The logits reach {number(self.cosines)} in place of 1.",
            program(
                f"model = ScaledOutputs(model, torch.tensor(0.0), torch.tensor({self.cosines}))"
            ),
            keys="The model's keys begin with `model.`; new are `mean` and `std`.",
        )

    def variants(self) -> tuple[Remedy, ...]:
        """The identity, then softplus."""
        return (self, replace(self, by="softplus"))

    def _blocks(self, case: Case, last: int) -> str:
        """What stands in the way now; empty if nothing does."""
        record = case.record
        kind = record.sites[last].kind
        for key, word in (("forward.dead", "dead"), ("forward.saturated", "flat")):
            share = record.value(key, last)
            if share is not None and share > self.blocked and record.fact("target.kind") == "real":
                return f"{100 * share:.0f} % of it was {word}"
        if (
            record.fact("loss.kind") in ("cross_entropy", "bce_logits", "nll")
            and kind in RECTIFIERS
        ):
            zero = record.value("forward.zero", last) or 0.0
            return f"{100 * zero:.0f} % of the logits were cut off at 0"
        low, high = RANGES.get(kind, (-math.inf, None))
        least, most = record.fact("target.min"), record.fact("target.max")
        if record.fact("target.kind") != "real" or least is None or most is None:
            return ""
        if least < low or (high is not None and most > high):
            return f"targets go from {number(least)} to {number(most)}, beyond what {kind} can give"
        return ""

    @staticmethod
    def sick() -> Case:
        """A ReLU behind a regression whose targets are negative too."""
        return example(lambda: nn.Sequential(*plain(2, out=1), nn.ReLU()), _numbers, F.mse_loss)

    @staticmethod
    def well() -> Case:
        """A linear output."""
        return example(lambda: plain(2, out=1), _numbers, F.mse_loss)


def _numbers() -> tuple[Tensor, Tensor]:
    x = torch.randn(40, 20)
    return x, x[:, :1] * 2 - 1
