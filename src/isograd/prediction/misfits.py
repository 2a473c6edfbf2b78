"""Misfits: calls that torch itself would refuse, because shapes do not fit or ids are too large.

What torch says of a call that no rule could follow is asked of tensors on the meta device.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from isograd.errors import ModelError, PredictionError
from isograd.prediction.ops import Op, is_foreign

if TYPE_CHECKING:
    from isograd.prediction.propagation import Call


def check(
    name: str, function: Callable[..., Any], args: Any, kwargs: Any, where: Callable[[], str]
) -> None:
    """Refuses a call that torch would refuse.

    Args:
        name: of the function.
        function: to be called.
        args: of the call.
        kwargs: of the call.
        where: tells the path of the module that calls.

    Raises:
        ModelError: what torch says against it.
    """
    if find(name, args, kwargs) and (said := told(name, function, args, kwargs)):
        raise error(name, args, said, where(), _TARGETS if name in _CLASSES else _CURE)


_CURE = "give inputs of the shapes and ids that the model takes"
_TARGETS = "give targets below the number of classes, or a model with more outputs"


def error(name: str, args: Any, said: str, where: str, cure: str = _CURE) -> ModelError:
    """What is raised of a call that would fail, for a reason that torch has `said`."""
    of = shapes(args)
    place = where or "the forward"
    return ModelError(f"predict: {name}{of and ' of '}{of} in {place!r} would fail: {said}; {cure}")


_OF_RULES = (ArithmeticError, LookupError, ValueError, AssertionError, AttributeError)
"""What numbers and tables raise, and torch does not."""


def failed(rule: Op, call: Call, args: Any, kwargs: Any, raised: Exception) -> Exception:
    """What a rule's own error becomes: torch's, if the call would fail; else it says whose it is.

    Args:
        rule: of the operation.
        call: under way.
        args: of it.
        kwargs: of it.
        raised: by the rule.
    """
    where, amiss = call.run.where(), isinstance(raised, (LookupError, ValueError))
    if amiss and (said := refused(call.function, args, kwargs)):
        return error(call.name, args, said, where)
    lines = str(raised).strip().splitlines() or ["(no message)"]
    said = f"raised {type(raised).__name__}: {lines[0]}"
    if not is_foreign(rule):
        if not isinstance(raised, _OF_RULES):
            return raised
        return PredictionError(
            f"predict: isograd's own rule for {call.name} in {where or 'the forward'!r} {said}; if "
            "the model runs on such inputs, that is a fault of isograd and not of the model: use "
            "isograd.measure on one batch"
        )
    return PredictionError(
        f"predict: the rule {type(rule).__module__}:{type(rule).__name__} for {call.name} in "
        f"{where or 'the forward'!r} {said}; repair it, or "
        "uninstall the package that it is from"
    )


def values_wanted(name: str, where: str) -> PredictionError:
    """What is raised where a model asks for a number that no one computes."""
    return PredictionError(
        f"predict: {name}() in {where or 'the forward'!r} needs a value that is never "
        "computed; what the model does there depends on data: use isograd.measure on one batch"
    )


def find(name: str, args: Any, kwargs: Any) -> bool:
    """Whether a call is seen at a glance to be one that torch would refuse.

    Sums over axes of unlike length are noticed by the rules themselves. Asking torch before every
    call would import its compiler.
    """
    if name in _TABLES:
        return bool(_TABLES[name](args, kwargs))
    asked = _CHECKS.get(name)
    if asked is None or not args or not isinstance(args[0], Tensor):
        return False
    with torch._C.DisableTorchFunction():
        try:
            return asked(args, kwargs)
        except (AttributeError, IndexError, TypeError):
            return False  # called in a way of which torch or the rule has more to say


def _sums(args: Any, _: Any) -> bool:
    x, weight = args[0].shape, args[1].shape
    return bool(x[-1] != weight[-1]) or not _is_real(args[0])


def _is_real(x: Tensor) -> bool:
    """Whether weights can be applied: whole numbers, such as raw pixels, have to be made real."""
    return x.is_floating_point() or x.is_complex()


def _products(args: Any, _: Any) -> bool:
    x, y = args[-2].shape, args[-1].shape
    return bool(x[-1] != y[-2 if len(y) > 1 else 0])


def _channels(args: Any, kwargs: Any) -> bool:
    x, weight = args[0], args[1]
    groups = args[6] if len(args) > 6 else kwargs.get("groups", 1)
    return not _is_real(x) or bool(x.shape[1 - weight.ndim] != weight.shape[1] * groups)


def _channels_transposed(args: Any, _: Any) -> bool:
    return bool(args[0].shape[1 - args[1].ndim] != args[1].shape[0])


def _last_axes(args: Any, _: Any) -> bool:
    wanted = tuple(args[1])
    return tuple(args[0].shape[len(args[0].shape) - len(wanted) :]) != wanted


def _axes(args: Any, kwargs: Any) -> bool:
    given = kwargs.get("dim", args[1] if len(args) > 1 else None)
    axes = [given] if type(given) is int else given
    n = max(args[0].ndim, 1)
    if not isinstance(axes, (list, tuple)):
        return False
    return any(type(axis) is int and not -n <= axis < n for axis in axes)


def _places(args: Any, _: Any) -> bool:
    items = args[1] if isinstance(args[1], tuple) else (args[1],)
    if any(item is Ellipsis or item is None for item in items):
        return False
    sizes = args[0].shape
    if len(items) > len(sizes):
        return True
    given = zip(items, sizes, strict=False)
    return any(type(item) is int and not -size <= item < size for item, size in given)


_WEIGHTED = frozenset("linear conv1d conv2d conv3d".split())
_CHECKS: dict[str, Callable[[Any, Any], bool]] = {
    "linear": _sums,
    **dict.fromkeys(("matmul", "mm", "bmm"), _products),
    **dict.fromkeys(("conv1d", "conv2d", "conv3d"), _channels),
    **dict.fromkeys((f"conv_transpose{d}d" for d in (1, 2, 3)), _channels_transposed),
    **dict.fromkeys(("layer_norm", "rms_norm"), _last_axes),
    **dict.fromkeys("mean sum var std amax amin softmax log_softmax".split(), _axes),
    "getitem": _places,
}


def told(name: str, function: Callable[..., Any], args: Any, kwargs: Any) -> str:
    """What torch says against a call; empty where it would run, or nobody knows."""
    if name in _TABLES:
        return _TABLES[name](args, kwargs)
    if name in _WEIGHTED and not _is_real(args[0]):
        kinds = [str(one.dtype).removeprefix("torch.") for one in args[:2]]
        return f"the input is {kinds[0]}, the weight {kinds[1]}"
    return refused(function, args, kwargs)


def refused(
    function: Callable[..., Any], args: Any, kwargs: Any, copies: Callable[[Any], Any] | None = None
) -> str:
    """The first line of what torch raises on tensors of the same shapes; empty where it runs."""
    copies = copies or _copies
    try:
        with torch._C.DisableTorchFunction(), torch.no_grad():
            function(*copies(args), **copies(kwargs))
    except NotImplementedError:
        return ""
    except (RuntimeError, IndexError, ValueError) as error:
        return (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    except Exception:
        return ""
    return ""


def exact_copies(value: Any) -> Any:
    """The same arguments with empty tensors of the same dtypes."""
    return _copies(value, None)


def _copies(value: Any, real: torch.dtype | None = torch.float32) -> Any:
    """The same arguments with empty tensors; `real` is the dtype of all floats, None for each's."""
    if isinstance(value, Tensor):
        dtype = real if real and value.is_floating_point() else value.dtype
        return torch.empty(value.shape, dtype=dtype, device="meta")
    if isinstance(value, dict):
        return {key: _copies(item, real) for key, item in value.items()}
    if type(value) in (tuple, list):
        return type(value)(_copies(item, real) for item in value)
    if isinstance(value, torch.device):
        return torch.device("meta")
    return real or value if isinstance(value, torch.dtype) else value


def shapes(args: Any) -> str:
    """`4×5 by 7×3`: the tensors among arguments."""
    with torch._C.DisableTorchFunction():
        found = ["×".join(map(str, one.shape)) or "a number" for one in args if _is_tensor(one)]
    return " by ".join(found[:2])


def _is_tensor(value: Any) -> bool:
    return isinstance(value, Tensor)


def _too_large(args: Any, kwargs: Any) -> str:
    """Ids that an embedding does not have."""
    named = dict(zip(("input", "weight"), args, strict=False)) | kwargs
    ids, weight = named.get("input"), named.get("weight")
    if not isinstance(ids, Tensor) or not isinstance(weight, Tensor):
        return ""
    with torch._C.DisableTorchFunction():
        if ids.is_meta or ids.is_floating_point() or not ids.numel():
            return ""
        low, high = (int(end) for end in ids.aminmax())
        if low >= 0 and high < weight.shape[0]:
            return ""
    return f"ids from {low} to {high}, where the table has {weight.shape[0]} rows, from 0"


def _no_class(args: Any, kwargs: Any) -> str:
    """Targets that are no class of the outputs."""
    named = dict(zip(("input", "target"), args, strict=False)) | kwargs
    x, target = named.get("input"), named.get("target")
    if not isinstance(x, Tensor) or not isinstance(target, Tensor) or not x.ndim:
        return ""
    with torch._C.DisableTorchFunction():
        if target.is_meta or target.is_floating_point() or not target.numel():
            return ""
        counted = target[target != named.get("ignore_index", -100)]
        if not counted.numel():
            return ""
        low, high = (int(end) for end in counted.aminmax())
        number = x.shape[min(1, x.ndim - 1)]
        if low >= 0 and high < number:
            return ""
    return f"targets from {low} to {high}, where there are {number} classes, from 0"


_CLASSES = frozenset(("cross_entropy", "nll_loss"))
_TABLES = {"embedding": _too_large, **dict.fromkeys(_CLASSES, _no_class)}
"""Calls whose whole numbers have to be places of a table."""
