"""The first look: everything that `measure` reads, from the training's own first step."""

from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from isograd.probe.assembling import assemble
from isograd.probe.live.sheet import Sheet, Spot, sheet_of
from isograd.probe.live.shield import Shield
from isograd.probe.live.standing import Standing
from isograd.probe.live.steps import inside_backward
from isograd.probe.measuring import Pass
from isograd.probe.recorder import Recorder
from isograd.records import Record
from isograd.sites.batches import LABEL_KEYS, Batch, tensors
from isograd.sites.graph import LOSSES, named_losses, stretches
from isograd.sites.tape import Call, Frame, Node, Tape, class_of
from isograd.statistics import SUMS, columns


class _Recorder(Recorder):
    """Also notes how each site can be found again."""

    def __init__(self, guard: Shield) -> None:
        super().__init__()
        self.guard = guard
        self.spots: list[Spot | None] = []
        self.summed: dict[int, bool] = {}
        """Whether each loss function adds up over the batch, by its node."""
        self.broadcast: list[list[int]] | None = None
        self._partial: dict[str, Frame] = {}
        """Calls of modules of whose result each process has but a term, still to be added up."""
        self._calls: dict[str, int] = {}
        self._ops: dict[tuple[str, str], int] = {}

    def _listen(self, tensor: Tensor, hook: Any) -> None:
        super()._listen(tensor, self.guard(hook))

    def after(self, tape: Tape, node: Node, out: Tensor, call: Call, /) -> None:
        path = tape.stack[-1].path if tape.stack else ""
        count = self._ops.get((path, node.op), 0)
        self._ops[path, node.op] = count + 1
        super().after(tape, node, out, call)
        if len(self.rows) > len(self.spots):
            self.spots.append(Spot(path, count, node.op))
        if tape.phase == "loss" and node.op in LOSSES:
            self.summed[node.index] = call.kwargs.get("reduction") == "sum"
        if tape.phase == "loss" and len(call.tensors) == 2 and self.broadcast is None:
            aim, guess = sorted(call.tensors, key=lambda t: t.requires_grad)
            shapes = tuple(guess.shape), tuple(aim.shape)
            if guess.requires_grad and not aim.requires_grad and stretches(node.op, *shapes):
                self.broadcast = [list(shape) for shape in shapes]

    def returned(self, tape: Tape, frame: Frame, node: Node, out: Tensor, /) -> None:
        count = self._calls.get(frame.path, 0)
        self._calls[frame.path] = count + 1
        super().returned(tape, frame, node, out)
        known = tape.paths.get(id(frame.module)) == frame.path  # else no part of the model
        spot = Spot(frame.path, count) if known else None
        if len(self.rows) > len(self.spots):
            self.spots.append(spot)
        elif known and len(frame.sites) == 1 and self.rows[frame.sites[0]].label == _label(frame):
            self.spots[frame.sites[0]] = spot
        if frame.sites and any(place.is_partial() for place in getattr(out, "placements", ())):
            self._partial[frame.path] = frame

    def added_up(self, tape: Tape, path: str, _: nn.Module, __: Any, out: Any) -> None:
        """A module has returned, and what it does with its result has been done."""
        frame = self._partial.pop(path, None)
        first = next(iter(tensors(out)), None)
        if frame is not None and first is not None:
            row = frame.sites[-1]
            with tape.quiet():
                self.read(tape, self.rows[row], first, frame)
            self.measures[row] = self.measures.pop()


def _label(frame: Frame) -> str:
    return class_of(frame.module).__name__


class FirstLook:
    """Listens from `start` until the first backward is over; `finish` makes the Record of it.

    Args:
        model: the plain module.
        root: the module that the loop calls, the same or a wrapper of it.
        guard: makes a hook that cannot raise.
    """

    def __init__(
        self,
        model: nn.Module,
        guard: Shield,
    ) -> None:
        self._model = model
        self._recorder = _Recorder(guard)
        self.tape = Tape(model, self._recorder)
        self.tape.on_fault = guard.fail
        self._standing = Standing(self.tape)
        self._stack = ExitStack()
        self._batch: Batch | None = None
        self._outputs: Any = None
        self._loss: Tensor | None = None
        self._loss_node: Node | None = None
        self._depth = 0
        self._over = False

    def start(self) -> None:
        """Begins to listen."""
        self._stack.enter_context(self.tape.hooked())
        for path, module in self._model.named_modules():
            if any(hasattr(p, "placements") for p in module.parameters(recurse=False)):
                told = partial(self._recorder.added_up, self.tape, path)
                hook = module.register_forward_hook(self._recorder.guard(told))
                self._stack.callback(hook.remove)
        self._standing.push()

    def stop(self) -> None:
        """Stops to listen to operations; gradients of what was seen still arrive."""
        self.tape.deaf = self._over = True
        self._stack.close()
        self._standing.pop()  # for certain when the step ends: a backward is a torch function

    def discard(self) -> None:
        """Takes everything off and lets go of every tensor."""
        self.stop()
        self._recorder.close()
        self._batch = self._outputs = self._loss = None

    def entering(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """The model is called."""
        if not self._over:
            self.tape.deaf = not torch.is_grad_enabled()  # an evaluation passes unseen
        if self.tape.deaf or inside_backward():
            return
        if self._batch is not None:  # a second forward before the first backward
            self.tape.phase = "model"
            self.tape.take(Batch(args, kwargs))
            return
        labels = next((kwargs[key] for key in LABEL_KEYS if kwargs.get(key) is not None), None)
        self._batch = Batch(args, kwargs, labels)
        self.tape.take(self._batch)

    def left(self, outputs: Any) -> None:
        """The model has returned."""
        if not self._over and not torch.is_grad_enabled():
            self.tape.deaf = False
        elif self._batch is not None and not self._over:
            self._outputs = outputs
            self.tape.phase = "loss"

    def backward_begins(self, loss: Tensor | None) -> None:
        """The first backward begins: what comes after it belongs to another one."""
        if self._batch is None or self._over:
            return
        if loss is not None:
            self._loss = loss.detach()
            with self.tape.quiet():
                self._loss_node = self.tape.node_of(loss)
        self.stop()

    @property
    def seen(self) -> bool:
        """Whether a forward and the beginning of its backward were seen."""
        return self._batch is not None and self._over and bool(self._recorder.rows)

    def finish(
        self, gradients: list[Tensor | None], step: int, scale: float
    ) -> tuple[Record, Sheet, dict[str, Tensor]]:
        """The Record, how its sites are found again, and rows as later looks have them.

        Args:
            gradients: of the parameters, as the optimizer gets them.
            step: steps done before.
            scale: by which a GradScaler multiplied the loss.
        """
        assert self._batch is not None
        recorder = self._recorder
        batch = self._batch
        if batch.targets is None:
            batch = Batch(batch.args, batch.kwargs, self._targets())
        done = Pass(self.tape, batch, self._outputs, self._loss, "", False, self._loss_node)
        done.gradients = gradients
        if self._loss_node is not None:  # what the loop divides afterwards is another node
            done.summed = recorder.summed.get(self._loss_node.index)
        measures = recorder.measures
        rows = {
            "forward": _rows([m.sums for m in measures]),
            "backward": _rows([m.gradient_sums for m in measures]),
        }
        if scale != 1.0:
            for one in measures:
                _divide(one, scale)
        record = assemble(self._model, done, recorder, step)
        if self._loss is not None:
            named = {"loss.name": record.fact("loss.kind") or "of the loop"}
            record = replace(record, facts={**record.facts, **named})
        if recorder.broadcast is not None:
            record = replace(record, facts={"loss.broadcast": recorder.broadcast, **record.facts})
        channels = [row.node.channels for row in recorder.rows]
        sheet = sheet_of(record, recorder.spots, channels)
        self.discard()
        return record, sheet, rows

    def _targets(self) -> Tensor | None:
        """What the loss compares the outputs with; of several calls of one function, all of it."""
        if self._loss_node is None:
            return None
        named = named_losses(self.tape, self._loss_node)
        found = [t for n in named if (t := self._recorder.targets.get(n.index)) is not None]
        if not found or len({LOSSES[n.op] for n in named}) > 1:
            return None
        alike = all(t.shape[1:] == found[-1].shape[1:] and t.ndim for t in found)
        return torch.cat(found) if len(found) > 1 and alike else found[-1]


def _rows(sums: list[Tensor | None]) -> Tensor:
    """Sums as rows of a table, empty where there are none."""
    device = next((s.device for s in sums if s is not None), torch.device("cpu"))
    table = columns.empty(len(sums), device)
    for row, vector in enumerate(sums):
        if vector is not None:
            table[row, : len(SUMS)] = vector
    return table


def _divide(measures: Any, scale: float) -> None:
    sums = measures.gradient_sums
    if sums is None:
        return
    for name in ("scale", "min", "max"):
        sums[SUMS.index(name)] /= scale


def batch_size(args: tuple[Any, ...], kwargs: dict[str, Any]) -> int:
    """Samples of a call of the model."""
    first = next((t for t in tensors((args, list(kwargs.values()))) if t.ndim), None)
    return 1 if first is None else int(first.shape[0])
