"""Taps: what later looks read in eager mode, through hooks that are there for one step."""

from array import array
from collections.abc import Callable
from contextlib import ExitStack
from functools import partial
from types import NoneType
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from isograd.probe.alike import Alike
from isograd.probe.live.sheet import Sheet
from isograd.probe.live.shield import Shield
from isograd.probe.live.standing import Standing
from isograd.probe.live.steps import inside_backward
from isograd.probe.modes import lag
from isograd.sites.batches import is_signal, tensors
from isograd.statistics import Place, Table, local
from isograd.statistics.hooks import Shared, forward_hook, gradient_hook

COMPARED = 512
"""Entries of a sample that are compared: a cosine is then known to within 5 percent."""


class Taps:
    """Reads the sites of a sheet into two tables, which are filled anew at every look.

    Args:
        model: the plain module.
        sheet: its sites.
        device: where the tables are.
        guard: makes a hook that cannot raise.
    """

    def __init__(self, model: nn.Module, sheet: Sheet, device: torch.device, guard: Shield) -> None:
        self._model, self._sheet, self._guard = model, sheet, guard
        self.forward = Table(sheet.places, device)
        self.backward = Table([Place()] * len(sheet.sites), device)
        self._alike = Alike(COMPARED)
        self.lags: list[Tensor] = []
        """Of batch norms, how far their outputs would be off in eval mode."""
        self._rows: dict[str, list[int]] = {}
        """Per module the rows of its calls, in order; -1 for a call that is no site."""
        self._ops: dict[tuple[str, str], dict[int, int]] = {}
        for row, spot in enumerate(sheet.spots):
            if spot is None:
                continue
            if spot.op:
                self._ops.setdefault((spot.module, spot.op), {})[spot.call] = row
                continue
            rows = self._rows.setdefault(spot.module, [])
            rows.extend([-1] * (spot.call + 1 - len(rows)))
            rows[spot.call] = row
        self._calls: dict[str, int] = {}
        self._thorough = array("B", [False])
        self._seen = array("B", bytes(len(sheet.sites)))
        """Rows that were read in a forward whose backward is not over."""
        self._attached = False
        self._stack = ExitStack()
        self._back = [self._back_of(row) for row in range(len(sheet.sites))]
        self._hooks = {path: self._hook_of(path, rows) for path, rows in self._rows.items()}

    def attach(self, *, thorough: bool) -> None:
        """Hooks the model for one step, or for one more.

        Args:
            thorough: whether large tensors are read whole, units told apart and samples compared.
        """
        self.forward.clear()
        self.backward.clear()
        self._alike.clear()
        self.lags = []
        self._thorough[0] = thorough
        self.restart()
        if self._attached:
            return
        self._attached = True
        modules = dict(self._model.named_modules())
        for path, hook in self._hooks.items():
            if isinstance(modules.get(path), (torch.jit.ScriptModule, NoneType)):
                continue  # which takes no hooks, or is gone
            self._stack.callback(modules[path].register_forward_hook(hook).remove)
        if self._ops:
            mode = _Ops(self._guard(self._operation), {op for _, op in self._ops})
            for path, module in modules.items():
                if isinstance(module, torch.jit.ScriptModule):
                    continue
                enter = module.register_forward_pre_hook(self._guard(partial(mode.entered, path)))
                leave = module.register_forward_hook(
                    self._guard(mode.left), always_call=True, prepend=True
                )
                self._stack.callback(enter.remove)
                self._stack.callback(leave.remove)
            self._stack.callback(mode.standing.pop)

    @property
    def numbers(self) -> dict[str, dict[int, Tensor]]:
        """Numbers of single sites that do not add up over micro-batches: the latest holds."""
        return self._alike.numbers()

    def detach(self) -> None:
        """Takes all hooks off; gradients of tensors that were read still arrive."""
        self._stack.close()
        self._attached = False

    discard = detach

    def restart(self) -> None:
        """The model is called: calls are counted from the first again."""
        self._calls.clear()

    def backward_ended(self) -> None:
        """What is read from here on belongs to another forward."""
        self._seen[:] = array("B", bytes(len(self._seen)))
        self._calls.clear()

    def _hook_of(self, path: str, rows: list[int]) -> Callable[..., None]:
        """The hook of a module; for the usual case without a line of Python, if there is one."""
        slow = self._guard(partial(self._returned, path, rows))
        read = self.forward.part_reader(rows[0])
        if read is None or len(rows) > 1:
            return slow
        shared, back = self._shared(rows[0]), self._back[rows[0]]
        return forward_hook(shared, read, slow, back, modes=bool(self._ops))

    def _back_of(self, row: int) -> Callable[[Tensor], None]:
        """The hook of a site's gradient, likewise."""
        slow = self._guard(partial(self._gradient, row))
        read = self.backward.part_reader(row)
        return slow if read is None else gradient_hook(self._shared(row), read, slow)

    def _shared(self, row: int) -> Shared:
        """What the native hooks of a row look at and change."""
        owners = self._guard.state, self._thorough, self._seen
        state, thorough, seen = (owner.buffer_info()[0] for owner in owners)
        return Shared(state, thorough, seen + row)

    def _returned(
        self, path: str, rows: list[int], module: nn.Module, args: Any, output: Any
    ) -> None:
        if self._thorough[0] and isinstance(module, nn.modules.batchnorm._BatchNorm):
            self._lag(module, args)
        call = self._calls.get(path, 0)
        self._calls[path] = call + 1
        row = rows[min(call, len(rows) - 1)]
        if row >= 0:
            out = output if isinstance(output, Tensor) else next(iter(tensors(output)), None)
            if out is not None:
                self._read(row, out)

    def _lag(self, norm: nn.modules.batchnorm._BatchNorm, args: Any) -> None:
        if args and is_signal(args[0]) and torch.is_grad_enabled():
            with torch.no_grad(), torch._C.DisableTorchFunction():
                found = lag(norm, local(args[0]))
            self.lags += [] if found is None else [found]

    def _operation(self, path: str, name: str, call: int, out: Tensor) -> None:
        row = self._ops.get((path, name), {}).get(call)
        if row is not None:
            self._read(row, out)

    def _read(self, row: int, out: Tensor) -> None:
        # Checkpointing runs a forward again inside the backward; of the two it is read once.
        if not torch.is_grad_enabled() or (self._seen[row] and inside_backward()):
            return
        if not is_signal(out):
            return
        self._seen[row] = True
        with torch._C.DisableTorchFunction():  # else `_Ops` would see every call in here
            plain = local(out.detach())
            self._add(self.forward, row, plain)
            if self._thorough[0] and self._sheet.samples(row) and plain.ndim > 1:
                self._alike.add(row, plain)
        if out.requires_grad:
            out.register_hook(self._back[row])

    def _gradient(self, row: int, gradient: Tensor) -> None:
        if gradient.layout == torch.strided:
            self._add(self.backward, row, local(gradient.detach()))

    def _add(self, table: Table, row: int, x: Tensor) -> None:
        if self._thorough[0]:
            table.read(row, x)
        else:
            table.read_part(row, x)


class _Ops(TorchFunctionMode):
    """Tells of operations by the module in whose own code they stand, and how many came before."""

    def __init__(self, told: Callable[..., Any], names: set[str]) -> None:
        super().__init__()
        self._told, self._names = told, names
        self._paths: list[str] = []
        self._counts: dict[tuple[str, str], int] = {}
        self._busy = False
        self.standing = Standing(self)

    def entered(self, path: str, _: nn.Module, __: Any) -> None:
        if not path or not self._paths:
            self._paths, self._counts = [], {}
            self.standing.push()  # only while a module runs: optimizers call many functions
        self._paths.append(path)

    def left(self, *_: Any) -> None:
        if self._paths:
            self._paths.pop()
        if not self._paths:
            self.standing.pop()

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        name = getattr(func, "__name__", "")
        if name in self._names and not self._busy and self._paths:
            self._busy = True
            try:
                self._note(name, out)
            finally:
                self._busy = False
        return out

    def _note(self, name: str, out: Any) -> None:
        first = out if isinstance(out, Tensor) else next(iter(tensors(out)), None)
        if first is None or not (first.is_floating_point() or first.is_complex()):
            return
        path = self._paths[-1]
        count = self._counts.get((path, name), 0)
        self._counts[path, name] = count + 1
        self._told(path, name, count, first)
