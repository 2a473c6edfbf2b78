"""preprocess-targets: targets of mean zero and unit variance, outputs in their own units."""

import math
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from isograd.remedies._code import number, program
from isograd.remedies._examples import example, plain
from isograd.remedies._inputs import Parts
from isograd.remedies._remedy import Case, Plan, Remedy
from isograd.sites.batches import as_batch


@dataclass(frozen=True)
class PreprocessTargets(Remedy):
    """Standardize the targets.

    Does: puts behind the model what scales its output back to the targets' mean and standard
        deviation, and divides outputs and targets by the latter inside the loss: the model learns
        numbers of order 1, and what it returns is in your units as before.

    Needs: a regression (squared or absolute error) whose targets' rms is off by `off`, or a finding
        about them, and a model that returns one tensor.

    Source: LeCun et al. 1998, Efficient BackProp, section 4.5; Bishop 1995, Neural networks for
        pattern recognition, section 8.2.
    """

    code: ClassVar[str] = "preprocess-targets"
    family: ClassVar[str] = "preprocessing"
    addresses: ClassVar[tuple[str, ...]] = ("target-not-normalized", "lr-too-high", "lr-too-low")

    off: float = 10.0
    """Factor from 1 of the targets' rms: gradients of a squared error are off by as much."""
    alike: float = 1e-3
    """Part of their rms by which the means of two sets of numbers differ that are not the same."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at the targets and the loss."""
        record = case.record
        kind, target = record.fact("loss.kind"), record.fact("target.kind")
        if kind not in ("mse", "l1") or target != "real":
            return f"the loss is {kind or 'none'} with targets that are {target or 'absent'}"
        targets = as_batch(case.batch).targets
        shape = tuple(record.fact("output.shape") or ())
        if not isinstance(targets, Tensor) or targets.shape != shape:
            return "the targets of the batch have not the shape of the outputs"
        mean, std = record.fact("target.mean") or 0.0, record.fact("target.std") or 0.0
        rms = math.hypot(mean, std)
        if std == 0:
            return "the targets are constant"
        if 1 / self.off <= rms <= self.off and not case.has("target-not-normalized"):
            return f"the targets have rms {number(rms)}"
        columns = targets.ndim > 1
        keep = f"({targets.ndim - 1},)" if columns else "()"
        effect = (
            f"The model learns targets of mean 0 and unit variance in place of {number(mean)} and "
            f"{number(std)}."
        )
        keys = "The model's keys begin with `model.`; new are `mean` and `std`."
        if not math.isclose(mean, float(targets.double().mean()), abs_tol=self.alike * rms):
            return Plan(
                self.code,
                effect,
                program(
                    f"model = ScaledOutputs(model, torch.tensor({mean:.6g}), "
                    f"torch.tensor({std:.6g}))"
                ),
                keys=keys,
                notes=(
                    "Mean and standard deviation are those of what the loss makes of the "
                    "targets of one batch.",
                ),
            )
        given = case.loss or (F.mse_loss if kind == "mse" else F.l1_loss)
        lines = [
            "# targets: the targets of your training batches, one after the other",
            f"units = Standardize.fit(targets, keep={keep})",
            "model = ScaledOutputs(model, units.mean, units.std)",
            "loss = InUnitsOfTargets(loss, units.std)",
        ]
        return Plan(
            self.code,
            effect,
            program(*lines),
            keys=keys,
            given={"targets": Parts(case, None), "loss": given},
            notes=("The loss is in units of the targets' variance.",)
            if kind == "mse"
            else ("The loss is in units of the targets' standard deviation.",),
        )

    @staticmethod
    def sick() -> Case:
        """Targets around 300."""
        return example(lambda: plain(2, out=1), lambda: _numbers(50.0, 300.0), F.mse_loss)

    @staticmethod
    def well() -> Case:
        """Standardized ones."""
        return example(lambda: plain(2, out=1), lambda: _numbers(1.0, 0.0), F.mse_loss)


def _numbers(std: float, mean: float) -> tuple[Tensor, Tensor]:
    x = torch.randn(40, 20)
    return x, mean + std * x[:, :1]
