"""preprocess-standardize: inputs of mean zero and unit variance, by a module in front."""

import math
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from isograd.remedies._code import number, program, quoted
from isograd.remedies._examples import example, plain
from isograd.remedies._inputs import gathered, place_of
from isograd.remedies._layers import layers
from isograd.remedies._remedy import Case, Plan, Remedy


@dataclass(frozen=True)
class PreprocessStandardize(Remedy):
    """Standardize the inputs.

    Does: puts a module in front of the model that subtracts the mean and divides by the standard
        deviation: of every column of a table, of every channel of an image, of all pixels at once
        where an image comes as one row (`over="auto"`); of every pixel (`over="pixel"`, the mean
        image) or of all numbers (`over="all"`). `scale="none"` centers only, `scale="one"` divides
        by one number, where columns are alike. The statistics are fitted in one pass and stay with
        the model, so that they are the same at test time.

    Needs: a floating-point input that is off: an rms beyond 0.1 and 5, a mean above `offset`
        standard deviations, columns of different scale, or a finding about it.

    Source: LeCun et al. 1998, Efficient BackProp, section 4.3.
    """

    code: ClassVar[str] = "preprocess-standardize"
    family: ClassVar[str] = "preprocessing"
    addresses: ClassVar[tuple[str, ...]] = ("input-not-normalized", "gradient-sign")

    over: Literal["auto", "feature", "pixel", "all"] = "auto"
    """What has statistics of its own."""
    scale: Literal["each", "one", "none"] = "each"
    """By what it is divided."""
    offset: float = 3.0
    """|mean| over standard deviation that is worth it; pixels in 0..1 have 0.5 to 2."""
    uneven: float = 100.0
    """Largest over smallest scale of a column of a table that is worth it."""

    def plan(self, case: Case) -> Plan | str:
        """Looks at the input's numbers."""
        record = case.record
        place = place_of(case)
        shape = record.fact("batch.shape")
        if place is None or not shape:
            return "no input is a floating-point tensor: ids have no scale"
        rms, std = record.fact("batch.rms") or 0.0, record.fact("batch.std") or 0.0
        mean = abs(record.fact("batch.mean") or 0.0)
        ratio = record.fact("batch.feature_std_ratio") or 1.0
        if std == 0:
            return "the input is constant, which no scale changes"
        pixels = self._pixels(case)
        uneven = len(shape) == 2 and ratio > self.uneven and not pixels
        off = not 0.1 <= rms <= 5.0 or mean > self.offset * std or uneven
        if not off and not case.has(*self.addresses):
            return f"the input has rms {number(rms)} and mean {number(mean)}, which is fine"
        if self.scale == "none" and not 0.1 <= std <= 5.0:
            return (
                f"the input has standard deviation {number(std)}, which centering leaves as it is"
            )
        if self.scale != "each" and uneven:
            return f"its columns' scales differ {number(ratio)} fold: no one divisor fits them"
        keep = self._keep(case, len(shape), pixels=pixels)
        more = "" if self.scale == "each" else f", scale={quoted(self.scale)}"
        if self.scale == "none":
            effect = "The inputs have mean 0, so that gradients of a unit's weights differ in sign."
        else:
            effect = f"The inputs have mean 0 and unit variance in place of rms {number(rms)}."
        line, given = gathered(case, "inputs", place)
        return Plan(
            self.code,
            effect,
            program(
                line,
                f"preprocessing = Standardize.fit(inputs, keep={keep}{more})",
                f"model = Preprocessed(preprocessing, model{_at(place)})",
            ),
            keys="The model's keys begin with `model.`; new are `preprocessing.*`.",
            given=given,
        )

    def variants(self) -> tuple[Remedy, ...]:
        """As the input asks for; the mean image with one scale; centered only."""
        image = replace(self, over="pixel", scale="one")
        return (self, image, replace(self, scale="none"))

    def _pixels(self, case: Case) -> bool:
        """Whether a row is an image: whole numbers up to 255, as many as no table has."""
        record = case.record
        shape = record.fact("batch.shape") or (0, 0)
        low, high = record.fact("batch.min"), record.fact("batch.max")
        whole = bool(record.fact("batch.integer_like"))
        return (
            len(shape) == 2
            and shape[1] >= _IMAGE
            and whole
            and low is not None
            and low >= 0
            and high is not None
            and high <= 255
        )

    def _keep(self, case: Case, ndim: int, *, pixels: bool) -> str:
        if self.over == "all" or (self.over == "auto" and pixels) or ndim < 2:
            return "()"
        if self.over == "pixel":
            return str(tuple(range(1, ndim)))
        first = next(iter(layers(case)), None)
        channels = first is not None and first.kind == "conv"
        return "(1,)" if channels or ndim == 2 else f"({ndim - 1},)"

    @staticmethod
    def sick() -> Case:
        """A table in raw units."""
        return example(lambda: plain(2, gain=math.sqrt(2)), lambda: _table(100.0))

    @staticmethod
    def well() -> Case:
        """A standardized one."""
        return example(lambda: plain(2, gain=math.sqrt(2)), lambda: _table(1.0))


_IMAGE = 49
"""Columns from which whole numbers are pixels: the smallest images have 7 x 7."""


def _at(place: int | str) -> str:
    shown: Any = quoted(place) if isinstance(place, str) else place
    return f", {shown}" if place != 0 else ""


def _table(scale: float) -> tuple[Tensor, Tensor]:
    return scale * torch.randn(40, 20), torch.randint(7, (40,))
