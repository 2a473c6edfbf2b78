"""Altering: what torch functions do to values that are recorded already.

Arithmetic, elementwise functions, reductions, copies, writes into parts, other layouts.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from isograd.prediction.drawing import draws
from isograd.prediction.drawing.draws import EMPTY, Draw, Unknown, Values
from isograd.prediction.drawing.recorded import (
    Recorded,
    attach,
    become,
    forget,
    on_meta,
    operand,
    picked,
    picked_shape,
    read,
    record,
    recorded,
    write_region,
)
from isograd.prediction.drawing.reductions import REDUCTIONS
from isograd.prediction.drawing.refusals import refusal
from isograd.prediction.drawing.rulebook import (
    MOST_REAL,
    Call,
    are_numbers,
    can_be_drawn,
    combine,
    drawn,
    make_real,
    make_recorded,
    mapped,
    note,
    number,
    rule,
    tensors,
    untold,
)

# -- arithmetic ---------------------------------------------------------------------------------


def _sum(x: Draw, y: Draw) -> Values:
    return draws.plus(x, y)


def _difference(x: Draw, y: Draw) -> Values:
    return draws.plus(x, y, -1.0)


_LARGEST_GIVEN = 4_000_000
"""Entries up to which a frozen parameter that is given known numbers holds them."""
_BINARY = {
    "add": _sum,
    "sub": _difference,
    "subtract": _difference,
    "rsub": lambda x, y: draws.plus(y, x, -1.0),
    "mul": draws.times,
    "multiply": draws.times,
    "div": draws.over,
    "divide": draws.over,
    "true_divide": draws.over,
    "rdiv": lambda x, y: draws.over(y, x),
    "truediv": draws.over,
    "rtruediv": lambda x, y: draws.over(y, x),
    "radd": _sum,
    "rmul": draws.times,
}
_BINARY_NAMES = {
    spelling: key for key in _BINARY for spelling in (key, f"{key}_", f"__{key}__", f"__i{key}__")
}


@rule(*_BINARY_NAMES)
def binary(call: Call) -> Any:
    """Sums, products and quotients of tensors and numbers."""
    one, other = call.argument(0, "input self"), call.argument(1, "other")
    here = recorded(one) if isinstance(one, Tensor) else None
    there = recorded(other) if isinstance(other, Tensor) else None
    if here is None and there is None:
        return call.plainly()
    in_place = call.is_in_place
    if in_place and here is None:
        return call.run(drawn)
    several = [x for x in (one, other) if isinstance(x, Tensor) and x.numel() > 1]
    if not in_place and len(several) == 2 and are_numbers(several):
        return call.run(number)
    x, y = operand(one), operand(other)
    if (alpha := call.kwargs.get("alpha", 1)) != 1 and isinstance(y, Draw):
        y = draws.affine(y, float(alpha), 0.0)
    if call.kwargs.get("rounding_mode"):
        return untold(call)
    made = combine(_BINARY[_BINARY_NAMES[call.name]], x, y)
    result = call.run()
    return note(call.name, one, here, made) if in_place and here else record(result, made)


_ELEMENTWISE = """
    abs absolute exp exp2 expm1 log log2 log10 log1p sqrt rsqrt square reciprocal neg negative pow
    float_power sin cos tan asin acos atan sinh cosh tanh asinh acosh atanh erf erfc erfinv
    sigmoid logit sign sgn floor ceil round trunc frac clamp clamp_min clamp_max clip relu
    relu6 leaky_relu elu selu celu gelu silu mish softplus softsign hardtanh tanhshrink
    logsigmoid nan_to_num __neg__ __abs__ __pow__
""".split()


@rule(*_ELEMENTWISE, *(f"{name}_" for name in _ELEMENTWISE if name[0] != "_"))
def elementwise(call: Call) -> Any:
    """A function of each entry."""
    tensor, kept = call.target()
    others = [one for one in call.others() if one is not tensor]
    if kept is None or any(recorded(one) or one.numel() > 1 for one in others):
        return untold(call)
    made = read(tensor, kept)
    if isinstance(made, Draw):
        made = _elementwise(call, made)
    if call.is_in_place:
        return note(call.name, tensor, kept, made)
    return record(call.run(), made)


def _elementwise(call: Call, x: Draw) -> Values:
    name = call.name.strip("_")
    if name in ("clamp", "clip", "clamp_min", "clamp_max"):
        low = None if name == "clamp_max" else call.argument(1, "min")
        high = call.argument(1 if name == "clamp_max" else 2, "max")
        ends = -math.inf if low is None else low, math.inf if high is None else high
        return draws.clamped(x, float(ends[0]), float(ends[1]))
    if name in ("neg", "negative"):
        return draws.affine(x, -1.0, 0.0)
    if name == "erfinv":
        return draws.erfinv(x)
    rest = {key: value for key, value in call.kwargs.items() if key not in ("input", "inplace")}
    spelled = " ".join([name, *map(str, call.args[1:]), *map(str, rest.items())])
    return draws.through(x, lambda nodes: call.func(nodes, *call.args[1:], **rest), spelled)


_REDUCTIONS = {name: name for name in REDUCTIONS} | {
    "linalg_vector_norm": "norm",
    "linalg_norm": "norm",
    "norm_except_dim": "norm",
}


@rule(*_REDUCTIONS)
def reduction(call: Call) -> Any:
    """Mean, sum, deviation or Euclidean norm of many entries."""
    tensor, kept = call.target()
    if kept is None or not _is_euclidean(call):
        return untold(call)
    x = read(tensor, kept)
    result = call.run()
    if isinstance(x, Draw) and result.numel():
        reduced = REDUCTIONS[_REDUCTIONS[call.name]]
        return record(result, reduced(x, tensor.numel() / result.numel()))
    return record(result, x)


def _is_euclidean(call: Call) -> bool:
    """Whether a norm is the root of a sum of squares; of a matrix, `linalg.norm(w, 2)` is not."""
    if _REDUCTIONS[call.name] != "norm":
        return True
    order = call.argument(1, "p ord pow")
    if call.name == "linalg_norm" and order is not None and call.args[0].dim() > 1:
        return order == "fro" or (order == 2 and isinstance(call.argument(2, "dim"), int))
    return order in (2, None, "fro")


@rule("normalize")
def normalize(call: Call) -> Any:
    """`F.normalize`: vectors of n entries and length 1, so that E x^2 = 1 / n."""
    tensor, kept = call.target()
    order, axis = call.argument(1, "p", 2.0), call.argument(2, "dim", 1)
    x = None if kept is None else read(tensor, kept)
    out = call.kwargs.get("out")
    if out is not None and order == 2 and axis == 0 and (held := recorded(out)) is not None:
        n = out.shape[axis]  # a vector of whatever values, as of a power iteration
        return note(call.name, out, held, draws.opaque("unknown", mean=0.0, variance=1 / n))
    if not isinstance(x, Draw) or order != 2 or not isinstance(axis, int) or out is not None:
        return untold(call)
    second = x.variance + x.mean**2
    n = tensor.shape[axis]
    mean = x.mean / math.sqrt(n * second) if second else 0.0
    made = draws.opaque("unknown", mean=mean, variance=(1 / n if second else 0.0) - mean**2)
    return record(call.run(), made)


# -- copies and layouts -------------------------------------------------------------------------


def _given(tensor: Tensor, kept: Recorded) -> bool:
    """Makes a frozen parameter real that gets known numbers, such as waves of positions."""
    if tensor.requires_grad or not kept.registered or kept.shared or tensor._is_view():
        return False
    if not isinstance(tensor, torch.nn.Parameter) or tensor.numel() > _LARGEST_GIVEN:
        return False
    try:
        become(tensor, torch.empty(tensor.shape, dtype=tensor.dtype))
    except RuntimeError:  # somebody holds on to it
        return False
    forget(tensor)
    return True


@rule("copy_")
def copy(call: Call) -> Any:
    """All values of another tensor."""
    tensor, kept = call.target()
    source = call.argument(1, "src other")
    if kept is None and recorded(source) is not None:
        kept = make_recorded(tensor)
    if kept is None:
        return call.run(drawn)
    if recorded(source) is None and (make_real(tensor, kept) or _given(tensor, kept)):
        return call.plainly()
    call.run()
    return note(call.name, tensor, kept, operand(source))


@rule("__setitem__")
def set_item(call: Call) -> Any:
    """Values for a part of a tensor."""
    tensor, index, value = call.args
    return _write(call, tensor, index, value)


@rule("masked_fill_")
def masked_fill(call: Call) -> Any:
    """A number where a mask is set."""
    tensor, mask, value = call.args[0], call.argument(1, "mask"), call.argument(2, "value")
    if recorded(tensor) is None:
        return untold(call)
    _write(call, tensor, mask.expand(tensor.shape), value)
    return tensor


@rule("fill_diagonal_")
def fill_diagonal(call: Call) -> Any:
    """A number on the diagonal of a matrix."""
    tensor, kept = call.target()
    if kept is None or tensor.dim() != 2 or len(call.args) + len(call.kwargs) > 2:
        return untold(call)
    steps = torch.arange(min(tensor.shape))
    _write(call, tensor, (steps, steps), call.argument(1, "fill_value"))
    return tensor


def _write(call: Call, tensor: Tensor, index: Any, value: Any) -> Any:
    kept = recorded(tensor)
    if kept is None:
        return call.run(drawn)
    is_known = all(recorded(one) is None for one in tensors(index, value))
    if is_known and make_real(tensor, kept):
        return call.plainly()
    values, masks = operand(value), tensors(index)
    if isinstance(values, Unknown) and kept.registered:
        raise refusal(call.name, values.cause)
    if not can_be_drawn(masks):
        raise refusal(call.name, "its index is only recorded")
    part = None if masks else tensor.detach()[index]
    if part is not None and recorded(part) is kept:
        note(call.name, part, kept, values)
    else:
        write_region(kept, picked(tensor, mapped(index, drawn)), values)
    return None


def set_data(call: Call) -> Any:
    """`parameter.data = values` and `parameter.set_(values)`."""
    tensor, source = call.args
    kept, given = recorded(tensor), recorded(source)
    if kept is None and given is None:
        return call.plainly()
    if kept is None and not tensor.is_meta and (kept := make_recorded(tensor)) is None:
        return call.func(tensor, drawn(source))
    if given is None:
        source = on_meta(source) if kept is None else record(on_meta(source), operand(source))
    return _set(call, tensor, kept, source)


def _set(call: Call, tensor: Tensor, kept: Recorded | None, source: Tensor) -> Any:
    given = recorded(source)
    if given is not None and kept is not None and kept.registered:
        values = read(source, given)
        if isinstance(values, Unknown) and values is not EMPTY:
            raise refusal(call.name, values.cause)
    result = call.func(tensor, source)
    if given is not None:
        given.shared = True
        if kept is not None and kept.registered:
            attach(tensor, given)
    return result


@rule(*"to type type_as float double half bfloat16 cpu cuda pin_memory share_memory_".split())
@rule(*"clone contiguous reshape flatten ravel __deepcopy__".split())
def keep(call: Call) -> Any:
    """The same values, in another tensor or of another precision."""
    tensor, kept = call.target()
    if call.name in ("to", "type_as"):
        call = _conversion(call, kept is not None)
    if kept is None:
        return call.plainly()
    if call.name in ("cpu", "cuda", "pin_memory", "share_memory_"):
        return tensor
    with torch.no_grad():
        result = call.plainly()
    if result is tensor or not isinstance(result, Tensor):
        return result
    if not result.is_floating_point():
        return record(result, Unknown(f"{call.name} makes it {result.dtype}"))
    if (seen := recorded(result)) is not None:
        seen.shared = True
        return result
    return record(result, read(tensor, kept))


def _conversion(call: Call, stays: bool) -> Call:
    """`to` and `type_as` with a dtype in place of a tensor, and no device if it `stays`."""
    rest = tuple(x.dtype if isinstance(x, Tensor) else x for x in call.args[1:])
    kwargs = {key: value for key, value in call.kwargs.items() if not isinstance(value, Tensor)}
    rest += tuple(x.dtype for x in call.kwargs.values() if isinstance(x, Tensor))
    if stays:
        rest = tuple(x for x in rest if isinstance(x, torch.dtype))
        kwargs = {key: value for key, value in kwargs.items() if key in ("dtype", "copy")}
    return Call("to", _same if not (rest or kwargs) else Tensor.to, (call.args[0], *rest), kwargs)


def _same(tensor: Tensor) -> Tensor:
    return tensor


@rule(*"__getitem__ index_select gather take take_along_dim".split())
@rule(*"flip fliplr flipud roll rot90 repeat tile repeat_interleave".split())
def move(call: Call) -> Any:
    """Entries picked, repeated or put elsewhere."""
    tensor, kept = call.target()
    if kept is None or any(recorded(x) for x in call.others()):
        return untold(call)
    if call.name == "__getitem__" and tensors(call.args[1]):
        shape = picked_shape(tensor, call.args[1])
        result = torch.empty(shape, dtype=tensor.dtype, device="meta")
    else:
        result = call.run()
    if (seen := recorded(result)) is not None:
        seen.shared = True
        return result
    return record(result, draws.renamed(read(tensor, kept)))


@rule(*"cat concat concatenate stack hstack vstack dstack".split())
def join(call: Call) -> Any:
    """Several tensors in one."""
    parts = tensors(call.argument(0, "tensors"))
    if all(recorded(part) is None for part in parts):
        return call.plainly()
    if are_numbers(parts):
        return call.run(number)
    made = draws.mixture([(part.numel(), operand(part)) for part in parts])
    return record(call.run(), made)


@rule("tril", "triu", "tril_", "triu_")
def triangle(call: Call) -> Any:
    """Zeros above or below a diagonal."""
    tensor, kept = call.target()
    if kept is None or are_numbers([tensor]) or tensor.numel() > MOST_REAL:
        return untold(call)
    result = call.run()
    ones = torch.ones(tensor.shape[-2:])
    share = float(call._replace(args=(ones, *call.args[1:])).plainly().mean())
    made = draws.mixture([(share, read(tensor, kept)), (1 - share, draws.constant(0.0))])
    return note(call.name, tensor, kept, made) if call.is_in_place else record(result, made)
