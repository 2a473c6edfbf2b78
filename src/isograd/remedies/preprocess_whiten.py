"""preprocess-whiten: inputs without correlation, by a module in front."""

import math
from collections.abc import Sized
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import torch
from torch import Tensor

from isograd.remedies._code import number, program, quoted
from isograd.remedies._examples import example, plain
from isograd.remedies._inputs import gathered, place_of
from isograd.remedies._preprocessing import FLOOR
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class PreprocessWhiten(Remedy):
    """Whiten the inputs.

    Does: puts a module in front of the model that turns the centered inputs to their principal axes
        (`method="decorrelate"`), divides them by their standard deviations there (`"pca"`), and
        turns them back (`"zca"`, so that images stay images). Fitted in one pass over the data;
        variances below `floor` of the largest count as that.

    Needs: floating-point inputs of one shape, at most `features` numbers each, more samples than
        numbers, columns of comparable scale (standardize the others; to decorrelate alone, of a
        usual one), and a second-moment matrix whose condition is above `condition`, or a finding.

    Source: LeCun et al. 1998, Efficient BackProp, section 4.3; Krizhevsky 2009, Learning multiple
        layers of features from tiny images, appendix A; Kessy, Lewin and Strimmer 2018, Optimal
        whitening and decorrelation.
    """

    code: ClassVar[str] = "preprocess-whiten"
    family: ClassVar[str] = "preprocessing"
    addresses: ClassVar[tuple[str, ...]] = ("input-not-normalized",)

    method: Literal["decorrelate", "pca", "zca"] = "zca"
    """The two last differ by a rotation, which a dense first layer does not see."""
    floor: float = FLOOR
    """Share of the largest variance: a hundredth of the largest size is mostly noise."""
    features: int = 4096
    """Numbers of one sample, at most: the covariance has their square."""
    condition: float = 1e4
    """Of the second-moment matrix: gradient descent takes about as many steps along its floor."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at shape and condition of the inputs."""
        record = case.record
        place, shape = place_of(case), record.fact("batch.shape")
        if place is None or not shape or len(shape) < 2:
            return "no input is a floating-point tensor of samples and features"
        wide = math.prod(shape[1:])
        parts = len(case.data) if isinstance(case.data, Sized) else 1
        samples = shape[0] * parts
        if wide > self.features:
            return f"a sample has {wide} numbers; whitening is worth it up to {self.features}"
        if samples <= wide:
            return f"{samples} samples do not give a covariance of {wide} numbers; hand in data="
        uneven = record.fact("batch.feature_std_ratio") or 1.0
        if uneven**2 * self.floor > 1.0:
            return (
                f"its columns' scales differ {number(uneven)} fold: those below the floor are lost"
            )
        std = record.fact("batch.std") or 0.0
        if self.method == "decorrelate" and not 0.1 <= std <= 5.0:
            return f"turning leaves the inputs' standard deviation of {number(std)}"
        condition = record.fact("batch.condition") or 1.0
        if condition < self.condition and not case.has(*self.addresses):
            return f"the second moments of the inputs have condition {number(condition)}"
        more = f"method={quoted(self.method)}, floor={number(self.floor)}"
        at = f", {quoted(place)}" if isinstance(place, str) else f", {place}" if place else ""
        line, given = gathered(case, "inputs", place)
        alike = ", and the loss curves alike along all of them"
        alike = "" if self.method == "decorrelate" else alike
        return Plan(
            self.code,
            f"The inputs have no correlation{alike}.",
            program(
                line,
                f"preprocessing = Whiten.fit(inputs, {more})",
                f"model = Preprocessed(preprocessing, model{at})",
            ),
            keys="The model's keys begin with `model.`; new are `preprocessing.*`.",
            given=given,
        )

    def variants(self) -> tuple[Remedy, ...]:
        """ZCA; decorrelation alone keeps what is large large."""
        return (self, replace(self, method="decorrelate"))

    @staticmethod
    def sick() -> Case:
        """Columns that are nearly copies of each other."""
        return example(lambda: plain(2), lambda: _features(0.003))

    @staticmethod
    def well() -> Case:
        """Independent ones."""
        return example(lambda: plain(2), lambda: _features(1.0))


def _features(own: float) -> tuple[Tensor, Tensor]:
    common = (1 - own) * torch.randn(90, 1)
    return common + own * torch.randn(90, 20), torch.randint(7, (90,))
