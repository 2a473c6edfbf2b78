"""optimizer-precision: weights in float32, arithmetic in bfloat16."""

import math
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from isograd.remedies._code import program
from isograd.remedies._examples import classes, example, plain
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class OptimizerPrecision(Remedy):
    """Keep the weights in float32 and compute in bfloat16.

    Does: converts the weights to float32, so that small updates are not rounded away, and runs the
        model under autocast to bfloat16, whose range is that of float32: gradients neither
        underflow nor overflow, and the loss needs no scaling.

    Needs: a model whose own weights are in float16, or in bfloat16 with a finding about precision.
        A loss that is scaled by a GradScaler needs nothing.

    Source: Micikevicius et al. 2018, Mixed precision training; Kalamkar et al. 2019, A study of
        BFLOAT16 for deep learning training.
    """

    code: ClassVar[str] = "optimizer-precision"
    family: ClassVar[str] = "optimizer"
    addresses: ClassVar[tuple[str, ...]] = ("precision",)

    def plan(self, case: Case) -> Plan | str:
        """Looks at the type of the weights."""
        kind = str(case.record.fact("model.dtype")).removeprefix("torch.")
        if kind != "float16" and not (kind == "bfloat16" and case.has("precision")):
            return f"its weights are in {kind}, which holds updates and gradients"
        return Plan(
            self.code,
            f"Gradients have the range, and weights the digits, of float32 in place of {kind}.",
            program("model = Autocast(model.float(), torch.bfloat16)"),
            keys="The model's keys begin with `model.`, and are in float32.",
            notes=(
                "To stay in float16: weights in float32, torch.autocast to float16, and "
                "torch.amp.GradScaler for the loss.",
            ),
        )

    @staticmethod
    def sick() -> Case:
        """A model in float16."""

        def batch() -> tuple[Tensor, Tensor]:
            x, y = classes()
            return x.half(), y

        return example(lambda: _small().half(), batch)

    @staticmethod
    def well() -> Case:
        """The same in float32."""
        return example(_small, classes)


def _small() -> nn.Module:
    return plain(2, gain=math.sqrt(2))
