"""Operands: fields of what goes into operations without being computed, parameters and numbers."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from typing import Any

import torch
from torch import Tensor

from isograd.errors import PredictionError
from isograd.prediction.functions.tokens import VALUES
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import SIGN, empirical, independent, patterned, scalar
from isograd.prediction.moments.pairs import Sizes
from isograd.prediction.recording import law_of, values_law


def number(value: Any, doing: str, where: str) -> Field:
    """The field of a plain number; arguments are those of `parameter`.

    Raises:
        PredictionError: it is complex.
    """
    if isinstance(value, complex):
        raise PredictionError(
            f"predict: {doing} in {where or 'the forward'!r} makes complex numbers, of which no "
            "moments are followed; use isograd.measure on one batch"
        )
    return scalar(float(value))


def parameter(value: Tensor, doing: str, where: str) -> Field:
    """The field of a parameter, or of a tensor on the meta device, by the law that it is drawn by.

    Args:
        value: the tensor.
        doing: the operation under way, for errors.
        where: path of the module that does it, for errors.

    Raises:
        PredictionError: nothing is known of its values.
    """
    law = law_of(value) if value.is_meta else values_law(value)
    if law is None and not value.is_floating_point():
        raise PredictionError(
            f"predict: {doing} in {where or 'the forward'!r} uses whole numbers that are never "
            "computed, such as indices of the largest entries: what it does there depends on data "
            "(routing, mixtures of experts); use isograd.measure on one batch"
        )
    if law is None:
        raise PredictionError(
            f"predict: a tensor of shape {list(value.shape)} in {where or 'the model'!r} is on the "
            "meta device with unknown values; build the model inside isograd.recording(), so that "
            "its initialization is known"
        )
    made = None if value.is_meta or value.requires_grad else patterned(value)
    if made is not None:
        made.notes[VALUES] = value
    made = made or independent(tuple(value.shape), law.mean, law.variance)
    if law.kind == "uniform":
        made.notes["kurtosis"] = 1.8
    return made


def constant(value: Tensor, cuts: Sequence[Sizes] | None = None) -> Field:
    """The field of a tensor with values.

    Args:
        value: the tensor.
        cuts: classes of its axes; None for those that its values tell.
    """
    if value.numel() == 1:
        return scalar(float(value)).regrouped((0,) * value.ndim)
    values = value.detach()
    if values.is_complex():
        values = torch.view_as_real(values)
    made = empirical(values.double().numpy(), cuts)
    made.notes[VALUES] = values
    if values.numel() and (sign := int(bool((values >= 0).all())) - int(bool((values <= 0).all()))):
        made.notes[SIGN] = sign
    return made


class Constants:
    """Fields of known tensors in one run."""

    def __init__(self) -> None:
        self._same: dict[int, tuple[Tensor, Field]] = {}
        self._views: dict[Any, tuple[Tensor, Field]] = {}

    def of(self, value: Tensor, cuts: Sequence[Sizes] | None) -> Field:
        """The field of a tensor; without classes, the same one each time.

        In given classes it is another field each time, of the same moments for the same view of the
        same memory: waves of positions are laid out anew in every layer.
        """
        if cuts is None:
            if id(value) not in self._same:
                self._same[id(value)] = value, constant(value)
            return self._same[id(value)][1]
        if value.layout is not torch.strided or value.is_inference():
            return constant(value, cuts)
        where = value.data_ptr(), value.shape, value.stride(), value.dtype
        key = where, value._version, tuple(cuts)
        if key not in self._views:
            self._views[key] = value, constant(value, cuts)
        found = copy(self._views[key][1])
        found.notes = dict(found.notes)
        return found
