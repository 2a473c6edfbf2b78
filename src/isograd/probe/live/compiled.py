"""Compiled models: taps inside the graphs of torch.compile."""

import itertools
import sys
import weakref
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from isograd.errors import warn
from isograd.probe.live.sheet import Sheet, Spot
from isograd.probe.live.shield import Shield
from isograd.records import Site
from isograd.sites import WEIGHTS, kind_of_function
from isograd.sites.batches import is_signal
from isograd.sites.parameters import parameters_of
from isograd.sites.tape import class_of, is_opaque
from isograd.statistics import Place, Table, local

_TRACED: "weakref.WeakValueDictionary[int, Traced]" = weakref.WeakValueDictionary()
_KEYS = itertools.count(1)


def plain_module(model: nn.Module) -> nn.Module:
    """The user's own module inside what torch wraps it in to compile or distribute it."""
    from torch.nn.parallel import DataParallel, DistributedDataParallel

    while True:
        inner = getattr(model, "_orig_mod", None)
        if inner is None and (
            isinstance(model, (DataParallel, DistributedDataParallel))
            or type(model).__name__ == "FullyShardedDataParallel"
        ):
            inner = model.module
        if not isinstance(inner, nn.Module):
            return model
        model = inner


def is_compiled(model: nn.Module) -> bool:
    """Whether torch.compile has wrapped it or any part of it."""
    return any(
        hasattr(m, "_orig_mod") or m._compiled_call_impl is not None for m in model.modules()
    )


def takes_fast_path(module: nn.Module) -> bool:
    """Whether torch computes it in one fused call as long as nobody looks inside.

    So it does with frozen encoders and attention in eval mode; hooks and modes would change their
    last bits.
    """
    fused = (nn.TransformerEncoder, nn.TransformerEncoderLayer, nn.MultiheadAttention)
    frozen = not module.training and isinstance(module, fused)
    return frozen and not any(p.requires_grad for p in module.parameters())


@torch.library.custom_op("isograd::tap", mutates_args=())
def _tap(x: Tensor, key: int, row: int) -> Tensor:
    """Reads an output, and gives a tensor on which the reading of its gradient depends."""
    taps = _TRACED.get(key)
    if taps is not None:
        taps.saw(row, x)
    return torch.zeros((), device=x.device)


@_tap.register_fake
def _(x: Tensor, key: int, row: int) -> Tensor:  # noqa: ARG001
    return torch.zeros((), device=x.device)


@torch.library.custom_op("isograd::tap_gradient", mutates_args=())
def _tap_gradient(
    gradient: Tensor,
    token: Tensor,  # noqa: ARG001
    key: int,
    row: int,
) -> Tensor:
    """Reads a gradient, and gives the (zero) gradient of the leaf that keeps this in the graph."""
    taps = _TRACED.get(key)
    if taps is not None:
        taps.saw_gradient(row, gradient)
    return torch.zeros((), device=gradient.device)


@_tap_gradient.register_fake
def _(gradient: Tensor, token: Tensor, key: int, row: int) -> Tensor:  # noqa: ARG001
    return torch.zeros((), device=gradient.device)


class _Tapped(torch.autograd.Function):
    """The identity, read on the way there and back."""

    @staticmethod
    def forward(  # leaf: what the backward gives its (zero) gradient to
        ctx: Any,
        x: Tensor,
        leaf: Tensor,  # noqa: ARG004
        key: int,
        row: int,
    ) -> Tensor:
        token = _tap(x.detach(), key, row)
        ctx.save_for_backward(token)
        ctx.key, ctx.row = key, row
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Any:
        (token,) = ctx.saved_tensors
        return gradient, _tap_gradient(gradient, token, ctx.key, ctx.row), None, None


class Compilations:
    """Tells, until it is removed, that torch is about to compile something."""

    def __init__(self, told: Callable[[], Any]) -> None:
        self._told = told
        self._handler: Any = None
        if "torch._dynamo" in sys.modules:  # an optimizer brings it
            self._handler = sys.modules["torch._dynamo.callback"].callback_handler
            self._handler.register_start_callback(self._start)

    def _start(self, _: Any) -> None:
        self._told()

    def remove(self) -> None:
        """Tells no more."""
        if self._handler is not None and self._start in self._handler.start_callbacks:
            self._handler.remove_start_callback(self._start)


class _Switch:
    """Whether graphs have taps: each of the two cases is compiled once."""

    on = False


class Traced:
    """Hooks on the leaf modules of a model that stay while it is watched.

    torch.compile takes them into its graphs. Of each graph there are two: with taps, for steps that
    are looked at, and without, which is the user's own.

    Args:
        model: the plain module.
        guard: makes a function that cannot raise.
    """

    def __init__(self, model: nn.Module, guard: Shield) -> None:
        self._key = next(_KEYS)
        _TRACED[self._key] = self
        self._switch = _Switch()
        self._saw = guard(self._reads)
        self._saw_gradient = guard(self._reads_gradient)
        self._model = model
        within = [f"{n}." for n, m in model.named_modules() if takes_fast_path(m)]
        self._named = [
            (n, m)
            for n, m in model.named_modules()
            if _is_leaf(m) and not any(f"{n}.".startswith(w) for w in within)
        ]
        self._thorough = False
        self._shapes: dict[int, tuple[int, ...]] = {}
        device = next((p.device for p in model.parameters()), torch.device("cpu"))
        self._leaf = torch.zeros((), device=device, requires_grad=True)
        self.forward = Table([Place()] * len(self._named), device)
        self.backward = Table([Place()] * len(self._named), device)
        self.numbers: dict[str, dict[int, Tensor]] = {}
        self._hooks = [
            module.register_forward_hook(_hook(self._switch, self._leaf, self._key, row))
            for row, (_, module) in enumerate(self._named)
        ]

    def attach(self, *, thorough: bool) -> None:
        """Reads the coming step, large tensors whole where it is to be thorough."""
        self._thorough = thorough
        self.forward.clear()
        self.backward.clear()
        self._switch.on = True

    def detach(self) -> None:
        """The coming steps are the user's own graphs."""
        self._switch.on = False
        self._leaf.grad = None

    def discard(self) -> None:
        """Takes the hooks off."""
        self.detach()
        for hook in self._hooks:
            hook.remove()
        self._hooks = []

    def restart(self) -> None:
        """Nothing: graphs do not count calls."""

    def backward_ended(self) -> None:
        """Nothing is kept from one backward to the next."""

    def saw(self, row: int, x: Tensor) -> None:
        """An output came by."""
        self._saw(row, x)

    def saw_gradient(self, row: int, gradient: Tensor) -> None:
        """A gradient came by."""
        self._saw_gradient(row, gradient)

    def _reads(self, row: int, x: Tensor) -> None:
        if self._switch.on and is_signal(x):
            self._shapes.setdefault(row, tuple(x.shape))
            self._add(self.forward, row, x)

    def _reads_gradient(self, row: int, gradient: Tensor) -> None:
        if self._switch.on and is_signal(gradient):
            self._add(self.backward, row, gradient)

    def _add(self, table: Table, row: int, x: Tensor) -> None:
        (table.read if self._thorough else table.read_part)(row, local(x.detach()))

    def sheet(self) -> Sheet:
        """The sites, in the order in which the model lists its modules.

        A graph does not tell what feeds what: sites have no inputs, and depth counts weight layers
        in that order.
        """
        sites, channels, depth = [], [], 0
        index = {id(p): i for i, p in enumerate(self._model.parameters())}
        used: dict[int, set[str]] = {}
        for row, (name, module) in enumerate(self._named):
            kind = _kind(module)
            depth += 2 if kind == "attention" else int(kind in WEIGHTS)
            own = tuple(index[id(p)] for p in module.parameters() if id(p) in index)
            for place in own:
                used.setdefault(place, set()).add(kind)
            shape = self._shapes.get(row, ())
            label = class_of(module).__name__
            sites.append(Site(name or label, kind, label, depth, shape, (), own))
            channels.append(len(shape) in (4, 5) or kind == "conv")
        spots = [Spot(name, 0) for name, _ in self._named]
        parameters = parameters_of(self._model, used)
        return Sheet(tuple(sites), tuple(parameters), tuple(spots), tuple(channels))


def _hook(switch: _Switch, leaf: Tensor, key: int, row: int) -> Callable[..., Any]:
    def hook(module: nn.Module, args: Any, output: Any) -> Any:  # noqa: ARG001
        if not switch.on or not torch.is_grad_enabled():
            return None
        if isinstance(output, Tensor):
            return _tapped(output, leaf, key, row)
        if type(output) is tuple and output and isinstance(output[0], Tensor):
            return (_tapped(output[0], leaf, key, row), *output[1:])
        return None

    return hook


def _tapped(x: Tensor, leaf: Tensor, key: int, row: int) -> Tensor:
    if not x.is_floating_point():
        return x
    tapped: Tensor = _Tapped.apply(x, leaf, key, row)  # type: ignore[no-untyped-call]
    return tapped


def _is_leaf(module: nn.Module) -> bool:
    if isinstance(module, torch.jit.ScriptModule):
        return False
    return is_opaque(module) or not any(True for _ in module.children())


def forget_graphs() -> None:
    """Graphs that were compiled before there were hooks have no taps: all are made once more."""
    from torch._dynamo.utils import counters

    if counters["stats"].get("unique_graphs"):
        warn(
            "watch: something was compiled before the watching began, so that it is compiled once "
            "more; begin to watch before the first step"
        )
        torch._dynamo.reset()


_MODULES = {
    "multiheadattention": "attention",
    "rnn": "recurrent",
    "lstm": "recurrent",
    "gru": "recurrent",
    "embeddingbag": "embedding",
}


def _kind(module: nn.Module) -> str:
    """The kind of a module call, by its class."""
    label = class_of(module).__name__
    lower = label.lower()
    if lower in _MODULES:
        return _MODULES[lower]
    if lower.startswith(("conv", "lazyconv")):
        return "conv"
    snake = "".join(f"_{c.lower()}" if c.isupper() else c for c in label).lstrip("_")
    names = (snake, snake.rstrip("123d").rstrip("_"), lower, lower.rstrip("123d"))
    special = {"batchnorm": "batch_norm", "layernorm": "layer_norm", "groupnorm": "group_norm"}
    special |= {"rmsnorm": "rms_norm", "instancenorm": "instance_norm", "leakyrelu": "leaky_relu"}
    for name in names:
        if name in special:
            return special[name]
        found = kind_of_function(name)
        if found not in (None, "matmul", "add"):
            return str(found)
    return "module"
