"""Sums and means over axes, variances and norms built of them."""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch

from isograd.prediction.backward.links import Link
from isograd.prediction.functions.scales import SPREAD
from isograd.prediction.moments.fields import Field
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.elementwise import of_one

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call


class Reductions(Op):
    """E (sum x)^2: every pair of summands counts with its second moment."""

    code = "reductions"
    functions = (
        "mean",
        "sum",
        "var",
        "std",
        "norm",
        "linalg_vector_norm",
        "nansum",
        "nanmean",
        "normalize",
    )
    lines = functions
    source = "second moments of sums"

    def apply(self, call: Call, x: Any, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        f = call.field(x)
        name = call.name.removeprefix("nan")
        if name in ("mean", "sum"):
            dim = kwargs.get("dim", kwargs.get("axis", args[0] if args else None))
            keep = bool(kwargs.get("keepdim", args[1] if len(args) > 1 else False))
            return reduced(f, dim, keep, average=name == "mean")
        if name == "normalize":
            return self._normalize(call, f, *args, **kwargs)
        if name in ("var", "std"):
            return self._spread(call, f, *args, **kwargs)
        return self._norm(call, f, *args, **kwargs)

    def _spread(
        self,
        call: Call,
        f: Field,
        dim: Any = None,
        unbiased: Any = None,
        keepdim: bool = False,
        *,
        correction: Any = None,
        axis: Any = None,
    ) -> Outcome:
        """Mean (x - mean x)^2 n / (n - correction), and its root."""
        if isinstance(dim, bool):
            dim, unbiased = None, dim
        if correction is None:
            correction = 1 if unbiased is None or unbiased else 0
        dim = axis if dim is None else dim
        center = reduced(f, dim, True, average=True)
        from isograd.prediction.moments.sums import added

        away = added(call, f, center.out, -1.0)
        square = of_one(call, away.out, torch.square)
        total = reduced(square.out, dim, keepdim, average=True)
        total.out.notes[SPREAD] = f
        n = prod(f.shape) / max(1, prod(total.out.shape))
        rest = [n / max(1.0, n - correction)]
        last = of_one(call, total.out, lambda v: v * rest[0])
        chain = [away, square, total, last]
        if call.name == "std":
            chain.append(of_one(call, last.out, torch.sqrt))
        return chained(call, chain)

    def _norm(self, call: Call, f: Field, *args: Any, **kwargs: Any) -> Outcome:
        names = ("p", "dim", "keepdim") if call.name == "norm" else ("ord", "dim", "keepdim")
        given = dict(zip(names, args, strict=False)) | kwargs
        order = given.get("p", given.get("ord", 2))
        if order not in (2, 2.0, "fro", None):
            raise call.refuse(f"is a norm of order {order}", "write a rule for it, or measure")
        square = of_one(call, f, torch.square)
        total = reduced(square.out, given.get("dim"), bool(given.get("keepdim")), average=False)
        root = of_one(call, total.out, torch.sqrt)
        return chained(call, [square, total, root])

    def _normalize(
        self, call: Call, f: Field, p: float = 2.0, dim: int = 1, eps: float = 1e-12, **_: Any
    ) -> Outcome:
        """X / |x|: the energy is 1 / n whatever it was before."""
        if p != 2:
            raise call.refuse(f"is a norm of order {p}", "write a rule for it, or measure")
        n = f.shape[dim % len(f.groups)]
        from isograd.prediction.ops.normalization import normalized

        out = normalized(call, f, [dim % len(f.groups)], eps * eps / n, centered=False)
        return chained(call, [out, _scaled(call, out.out, n**-0.5)])


def _scaled(call: Call, f: Field, factor: float) -> Outcome:
    from isograd.prediction.ops.arithmetic import scaled

    return scaled(call, f, factor)


def chained(call: Call, steps: list[Outcome]) -> Outcome:
    """Outcomes that follow on each other: all but the last are steps of the run by themselves.

    A function of the last is one of what that is a function of, and sends its gradient there.
    """
    for step in steps[:-1]:
        call.run.record(call.name, "", step)
    return steps[-1]


def reduced(f: Field, dim: Any, keep: bool, *, average: bool) -> Outcome:
    """Sum or mean over axes of a tensor."""
    ndim = len(f.groups)
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        axes = list(range(ndim))
    else:
        axes = [d % max(ndim, 1) for d in ([dim] if isinstance(dim, int) else dim)]
    places = [place for axis in axes if ndim for place in f.factors_of(axis)]
    n = prod(f.shape[axis] for axis in axes) if ndim else 1
    out = f.summed(places, average=average)
    if keep and average:
        out.averaged = f
    elif not keep:
        out = out.regrouped(tuple(g for axis, g in enumerate(out.groups) if axis not in axes))
    if out is f:
        out = f.like(f.second, f.mean)
    shape, groups = f.shape, out.groups

    def behind(g: Field) -> Field:
        if not keep:
            kept = iter(g.groups)
            g = g.regrouped(tuple(0 if axis in axes else next(kept) for axis in range(ndim)))
        g = g.expanded(shape)
        return g.scaled(1 / n) if average else g

    def ahead(c: Field) -> Field:
        return c.summed(places, average=average).regrouped(groups)

    link = Link("layout", ahead, behind, where=("sum", tuple(axes), keep, average))
    formula = "mean" if average else "sum"
    return Outcome(out, lambda g: [(f, behind(g))], [f], formula=formula, link=link)
