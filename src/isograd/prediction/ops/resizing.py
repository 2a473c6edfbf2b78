"""Resizing: interpolation between positions, pixels to channels and back, patches to columns."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch.nn import functional

from isograd.prediction.moments.axismaps import adjoint, mapped
from isograd.prediction.moments.fields import Field
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.layout import relaid

if TYPE_CHECKING:
    from isograd.prediction.moments.pairs import Array
    from isograd.prediction.propagation import Call


@dataclass(frozen=True, slots=True)
class Resampling:
    """Interpolation along one axis: the same matrix on each, for all modes that torch has."""

    entries: int
    number: int
    mode: str
    align_corners: bool | None
    scale: float | None
    antialias: bool

    def matrix(self) -> Array:
        """(outputs, inputs), from torch's own interpolation of unit vectors."""
        with torch._C.DisableTorchFunction():
            # The last axis: of a column one entry wide, antialiasing reads wrong strides.
            units = torch.eye(self.entries, dtype=torch.float64)[:, None, None, :]
            scale = None if self.scale is None else (1.0, self.scale)
            found = functional.interpolate(
                units,
                None if scale is not None else (1, self.number),
                scale,
                self.mode,
                self.align_corners,
                antialias=self.antialias,
            )
            return np.asarray(found[:, 0, 0].T.numpy())


class Resizing(Op):
    """Linear maps along each axis; moved entries keep their moments."""

    code = "resizing"
    functions = tuple(
        "interpolate upsample upsample_nearest upsample_bilinear pixel_shuffle pixel_unshuffle "
        "channel_shuffle native_channel_shuffle".split()
    )
    lines = functions
    source = "linear in its input; the matrix of each axis is torch's own"

    def apply(self, call: Call, x: Any, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        name = call.name.removeprefix("native_")
        f = call.field(x)
        if name.startswith("pixel") or name == "channel_shuffle":
            found: Outcome = getattr(self, f"_{name}")(call, f, *args, **kwargs)
            return found
        if name == "upsample_nearest":
            kwargs["mode"] = "nearest"
        if name == "upsample_bilinear":
            kwargs.update(mode="bilinear", align_corners=True)
        return self._interpolate(call, f, *args, **kwargs)

    def _interpolate(
        self, call: Call, f: Field, size: Any = None, scale_factor: Any = None,
        mode: str = "nearest", align_corners: bool | None = None,
        recompute_scale_factor: bool | None = None, antialias: bool = False,
    ) -> Outcome:  # fmt: skip
        del call
        entries = f.shape[2:]
        scales: tuple[float | None, ...] = (None,) * len(entries)
        if size is not None:
            numbers = _each(size, len(entries))
        else:
            given = tuple(float(one) for one in _each(scale_factor, len(entries)))
            numbers = tuple(int(n * by) for n, by in zip(entries, given, strict=True))
            if not recompute_scale_factor:
                scales = given
        plain = {"linear": "bilinear", "trilinear": "bilinear"}.get(mode, mode)
        if plain == "area":  # the same as adaptive pooling, which knows no scale
            scales = (None,) * len(entries)
        maps = tuple(
            Resampling(n, to, plain, align_corners, by, antialias)
            for n, to, by in zip(entries, numbers, scales, strict=True)
        )
        out = mapped(f, 2, maps)
        formula = f"{mode} interpolation"
        return Outcome(out, lambda g: [(f, adjoint(g, 2, maps, f))], [f], formula=formula)

    def _pixel_shuffle(self, call: Call, f: Field, upscale_factor: int) -> Outcome:
        r = upscale_factor
        *lead, c, h, w = f.shape
        return _moved(
            call,
            f,
            (*lead, c // r**2, r, r, h, w),
            (0, 3, 1, 4, 2),
            (*lead, c // r**2, h * r, w * r),
        )

    def _pixel_unshuffle(self, call: Call, f: Field, downscale_factor: int) -> Outcome:
        r = downscale_factor
        *lead, c, h, w = f.shape
        return _moved(
            call,
            f,
            (*lead, c, h // r, r, w // r, r),
            (0, 2, 4, 1, 3),
            (*lead, c * r**2, h // r, w // r),
        )

    def _channel_shuffle(self, call: Call, f: Field, groups: int) -> Outcome:
        n, c, *rest = f.shape
        return _moved(call, f, (n, groups, c // groups, prod(rest)), (1, 0, 2), f.shape)


def _moved(
    call: Call, f: Field, apart: tuple[int, ...], order: tuple[int, ...], shape: tuple[int, ...]
) -> Outcome:
    """Entries cut into axes `apart`, the last of which come in another order, joined again."""
    lead = len(apart) - len(order)
    whole = [*range(lead), *(lead + axis for axis in order)]
    back = [whole.index(axis) for axis in range(len(whole))]
    turned = tuple(apart[axis] for axis in whole)
    start = f.shape
    return relaid(
        call,
        f,
        lambda g: g.reshaped(apart).permuted(whole).reshaped(shape),
        lambda g: g.reshaped(turned).permuted(back).reshaped(start),
    )


def _each(value: Any, d: int) -> tuple[Any, ...]:
    """One number per spatial axis."""
    given = tuple(value) if isinstance(value, (tuple, list)) else (value,) * d
    return given * d if len(given) == 1 else given
