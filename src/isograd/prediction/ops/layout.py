"""The same entries in another shape, order or type; repetition."""

from __future__ import annotations

from dataclasses import replace
from math import prod
from typing import TYPE_CHECKING, Any

import torch

from isograd.prediction import targets
from isograd.prediction.backward.links import Link
from isograd.prediction.functions.biases import laid_out
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.sums import CUT
from isograd.prediction.ops import Op, Outcome
from isograd.prediction.ops.elementwise import of_one

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call

_SAME = frozenset(
    "contiguous to float double half bfloat16 type type_as clone cpu cuda alias positive "
    "requires_grad as_subclass identity relu_identity lift_fresh real conj resolve_conj "
    "resolve_neg view_as_real_identity channels_last pin_memory share_memory data".split()
)
_CUTS = frozenset("detach stop_gradient data".split())


class Layout(Op):
    """Moments move with the axes; nothing is computed."""

    code = "layout"
    functions = (
        *sorted(_SAME | _CUTS),
        *"view reshape view_as reshape_as flatten unflatten squeeze unsqueeze permute "
        "transpose swapaxes swapdims movedim moveaxis t T mT H mH adjoint ravel expand expand_as "
        "broadcast_to repeat tile copy".split(),
    )
    lines = functions
    source = "no arithmetic"

    def apply(self, call: Call, x: Any, *args: Any, **kwargs: Any) -> Outcome:
        """One call of any of the functions."""
        f = call.field(x)
        if call.name in _SAME | _CUTS:
            return self._identity(call, f, args, kwargs)
        shape = f.shape
        if call.name == "copy":  # what was there before is gone
            f, old = call.field(args[0]), tuple(args[0].shape)
            return relaid(call, f, lambda g: g.expanded(shape), lambda g: g.summed_to(old))
        if call.name in ("expand", "expand_as", "broadcast_to"):
            return self._expand(f, call, args, kwargs)
        if call.name in ("repeat", "tile"):
            return self._repeat(call, f, _sizes(args, kwargs, "repeats", "dims"))
        order = _order(call.name, len(shape), args, kwargs)
        if order is not None:
            inverse = [order.index(axis) for axis in range(len(order))]
            behind = lambda g: targets.turned(g.permuted(inverse), g)  # noqa: E731
            return relaid(call, f, lambda g: g.permuted(order), behind)
        target = _target(call.name, shape, args, kwargs)
        ahead = lambda g: g.reshaped(target)  # noqa: E731
        done = relaid(call, f, ahead, lambda g: g.reshaped(shape))
        if done.out is not f:
            laid_out(done.out, f, ahead)
        return done

    def _identity(self, call: Call, f: Field, args: Any, kwargs: Any) -> Outcome:
        dtype = next((a for a in (*args, *kwargs.values()) if isinstance(a, torch.dtype)), None)
        named = {"float": torch.float32, "double": torch.float64, "half": torch.float16}
        dtype = dtype or named.get(call.name)
        if call.name == "bfloat16":
            dtype = torch.bfloat16
        if dtype is None and args:
            of = args[0]  # another tensor, torch.FloatTensor, or its name
            of = getattr(torch, of.rpartition(".")[2], None) if isinstance(of, str) else of
            dtype = getattr(of, "dtype", None)
        if call.name not in _CUTS:
            return Outcome(f, dtype=dtype)
        # Still a function of the same field, but of slope zero.
        out = of_one(call, f, torch.Tensor.detach).out
        out.visible = f.visible
        out.notes[CUT] = f
        return Outcome(out, None, [f], dtype=dtype)

    def _expand(self, f: Field, call: Call, args: Any, kwargs: Any) -> Outcome:
        if call.name == "expand_as":
            wanted = tuple(args[0].shape)
        else:
            wanted = _sizes(args, kwargs, "size", "sizes")
        extra = len(wanted) - len(f.groups)
        shape = tuple(
            f.shape[axis - extra] if size == -1 else size for axis, size in enumerate(wanted)
        )
        old = f.shape
        return relaid(call, f, lambda g: g.expanded(shape), lambda g: g.summed_to(old))

    def _repeat(self, call: Call, f: Field, times: tuple[int, ...]) -> Outcome:
        times = (1,) * (len(f.groups) - len(times)) + times
        old = (1,) * (len(times) - len(f.groups)) + f.shape
        apart = [size for pair in zip(times, old, strict=True) for size in pair]
        single = [size for n in old for size in (1, n)]
        final = tuple(a * b for a, b in zip(times, old, strict=True))

        def ahead(g: Field) -> Field:
            return g.reshaped(tuple(single)).expanded(tuple(apart)).reshaped(final)

        def back(g: Field) -> Field:
            whole = g.reshaped(tuple(apart)).summed_to(tuple(single))
            return whole.reshaped(f.shape)

        return relaid(call, f, ahead, back)


def relaid(call: Call, f: Field, ahead: Any, behind: Any, where: Any = None) -> Outcome:
    """The outcome of a layout operation.

    Args:
        call: under way.
        f: the input.
        ahead: Field -> Field, as the operation lays it out.
        behind: gradient's field of the output -> that of the input.
        where: which entries are taken, as in `Link`; None for all of them.
    """
    out = ahead(f)
    if out is f or (out.second is f.second and (out.cuts, out.groups) == (f.cuts, f.groups)):
        return Outcome(f)
    out.visible = None
    if f.visible is not None:
        out.visible = _moved_mask(f, out)
    if f.nodes is not None and out.nodes is not None and f.origin is not None:
        # The function stays the same function of a field laid out in the same way.
        origin = ahead(f.origin)
        if origin.cuts == out.cuts:
            origin.nodes = None
            origin.noise, origin.condition = f.origin.noise, f.origin.condition
            out.origin = origin
            if out.nodes is f.nodes:  # what the field was a function of gets its gradient by layout
                left = [step for step in f.nodes.steps if step[0] is not f.origin]
                out.nodes = replace(f.nodes, steps=left)
            run, start = call.run, f.origin
            run.link(origin, start, Link("layout", ahead, behind, where=where))
    if out.origin is None:
        out.nodes = None
    link = Link("layout", ahead, behind, where=where)
    return Outcome(out, lambda g: [(f, behind(g))], [f], link=link)


def _moved_mask(f: Field, out: Field) -> Any:
    return f.visible if f.shape == out.shape else None


def _order(name: str, ndim: int, args: Any, kwargs: Any) -> list[int] | None:
    axes = list(range(ndim))
    if name in ("transpose", "swapaxes", "swapdims"):
        given = [*args, *kwargs.values()]
        a, b = given[0] % ndim, given[1] % ndim
    elif name in ("mT", "mH", "adjoint"):
        a, b = ndim - 2, ndim - 1
    elif name == "t":
        a, b = (0, 1) if ndim == 2 else (0, 0)
    elif name in ("T", "H"):
        return axes[::-1]
    elif name == "permute":
        return [axis % ndim for axis in _sizes(args, kwargs, "dims")]
    elif name in ("movedim", "moveaxis"):
        source, target = (_tuple(v) for v in (args if args else kwargs.values()))
        moved = [axis % ndim for axis in source]
        order = [axis for axis in axes if axis not in moved]
        for to, axis in sorted(zip((t % ndim for t in target), moved, strict=True)):
            order.insert(to, axis)
        return order
    else:
        return None
    axes[a], axes[b] = axes[b], axes[a]
    return axes


def _target(name: str, shape: tuple[int, ...], args: Any, kwargs: Any) -> tuple[int, ...]:
    if name in ("view", "reshape"):
        wanted = _sizes(args, kwargs, "shape", "size")
    elif name in ("view_as", "reshape_as"):
        wanted = tuple(args[0].shape)
    elif name == "ravel":
        wanted = (prod(shape),)
    elif name == "flatten":
        given = dict(zip(("start_dim", "end_dim"), args, strict=False)) | kwargs
        n = max(len(shape), 1)
        start, end = given.get("start_dim", 0) % n, given.get("end_dim", -1) % n
        wanted = (*shape[:start], prod(shape[start : end + 1]), *shape[end + 1 :])
    elif name == "unflatten":
        given = dict(zip(("dim", "sizes"), args, strict=False)) | kwargs
        axis = given["dim"] % len(shape)
        sizes = _filled(_tuple(given["sizes"]), shape[axis])
        wanted = (*shape[:axis], *sizes, *shape[axis + 1 :])
    elif name == "unsqueeze":
        axis = (args[0] if args else kwargs["dim"]) % (len(shape) + 1)
        wanted = (*shape[:axis], 1, *shape[axis:])
    else:
        axes = _sizes(args, kwargs, "dim") if args or kwargs else tuple(range(len(shape)))
        gone = {axis % len(shape) for axis in axes if shape[axis] == 1}
        wanted = tuple(size for axis, size in enumerate(shape) if axis not in gone)
    return _filled(wanted, prod(shape))


def _filled(wanted: tuple[int, ...], total: int) -> tuple[int, ...]:
    known = prod(size for size in wanted if size != -1)
    return tuple(total // known if size == -1 else size for size in wanted)


def _sizes(args: Any, kwargs: Any, *names: str) -> tuple[int, ...]:
    if not args:
        args = (next(kwargs[name] for name in names if name in kwargs),)
    if len(args) == 1 and not isinstance(args[0], int):
        return _tuple(args[0])
    return tuple(int(a) for a in args)


def _tuple(value: Any) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,)
    return tuple(int(v) for v in value)
