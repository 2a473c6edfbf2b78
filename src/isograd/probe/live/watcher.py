"""The watcher: one training seen from outside, look by look."""

import math
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.module import (
    register_module_forward_hook,
    register_module_forward_pre_hook,
)

from isograd.probe.facts import learning_rate, step_facts
from isograd.probe.live.compiled import Compilations, plain_module
from isograd.probe.live.entrances import Entrances
from isograd.probe.live.events import Events
from isograd.probe.live.first import batch_size
from isograd.probe.live.handing import Handing
from isograd.probe.live.payload import Later
from isograd.probe.live.ranks import Ranks
from isograd.probe.live.reaching import Ends
from isograd.probe.live.reader import Reader
from isograd.probe.live.receiver import Receiver
from isograd.probe.live.schedule import Schedule
from isograd.probe.live.shield import Shield
from isograd.probe.live.steps import Steps, inside_backward
from isograd.probe.modes import switches

IDLE_STEPS, IDLE_BACKWARDS = 3, 256
"""Steps without any backward, and backwards without any step, from which one has been forgotten:
more backwards than anybody adds up in one step."""


ASKING = 8
"""Steps after which a process that has heard no step of a next look asks again."""

_TOLD = "backward_begins backward_ended zeroed evaluated step_begins _step_ended _next".split()
# What is called in every step, and must not raise.


class Watcher:
    """Hooks that stand while a training runs; see `isograd.watching`.

    Args:
        model: what the loop calls.
        optimizer: whose steps count; None: the first that holds parameters of the model.
        schedule: when to look.
        receiver: who takes what is seen.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer | None,
        schedule: Schedule,
        receiver: Receiver,
    ) -> None:
        self.root, self.model = model, plain_module(model)
        self.schedule, self.receiver = schedule, receiver
        self.step = 0
        """Steps done, those included that a GradScaler left out."""
        self.skipped = 0
        self.guard = Shield(self._failed, lambda error: error is receiver.raised)
        for name in _TOLD:
            setattr(self, name, self.guard(getattr(self, name)))
        self.events = Events(self.model, schedule.alarm)
        self._handing = Handing(receiver, schedule, self.events)
        self.ranks: Ranks | None = None
        self._steps = Steps(self.model, optimizer, self)
        self._reader: Reader | None = None
        self._named = list(self.model.named_parameters())
        self._switches = switches(self.model)
        self._due: int | None = 0
        self._hooks: list[Any] = []
        self._loss: Any = None
        self._scale = 1.0
        self._size = self._fresh = 0
        """Samples of this step's forwards, and of those among them whose backward is to come; in
        steps that are not looked at, forwards."""
        self._stale = False
        """Whether the sizes so far are of forwards that count no more."""
        self._ends = Ends(self.model)
        self._past = False
        """Whether the backward under way does not touch the model."""
        self._backwards = 0
        """Of this step."""
        self.backwards = 0
        """In all."""
        self._training = model.training
        self._called = False
        """Whether the loop has ever called the model itself, and not only parts of it."""
        self._parts = Entrances(self.model, self.guard, self._part_entering, self._part_left)
        self._ended = time.perf_counter()

    def open(self) -> None:
        """Begins to watch: the next step is the first."""
        self._ended = time.perf_counter()
        self._steps.open()
        self.guard(self._open)()

    def _open(self) -> None:
        self._hooks += self._on_root()
        self._reader = Reader(self.root, self.model, self.guard)
        # A function around the model may be compiled even where the model is not.
        self._hooks.append(Compilations(self._compiling))
        self._reader.arm(thorough=True)

    def _on_root(self) -> list[Any]:
        """Hooks that see each call of the model."""
        root, enter, leave = self.root, self.guard(self._entering), self.guard(self._left)
        if any(m._compiled_call_impl is not None for m in (root, self.model)):
            return []  # they would be compiled
        self._parts.open()
        if isinstance(root, torch.jit.ScriptModule):  # which takes no hooks of its own
            return [
                register_module_forward_pre_hook(
                    lambda module, args: enter(module, args, {}) if module is root else None
                ),
                register_module_forward_hook(
                    lambda module, args, out: leave(module, args, out) if module is root else None
                ),
            ]
        return [
            root.register_forward_pre_hook(enter, with_kwargs=True),
            root.register_forward_hook(leave),
        ]

    def _compiling(self) -> None:
        try:
            if self._reader is not None and self.failure is None:
                self._parts.prune()
                self._reader.compiling()
        except Exception as error:
            self.guard.fail(error)

    @property
    def _read(self) -> Reader:
        assert self._reader is not None
        return self._reader

    def close(self) -> None:
        """Takes everything off, and passes on what is still on its way."""
        self._steps.close()
        if self.failure is None:
            self.guard(lambda: self._handing.hand_over(self.step, self._ranks(), wait=True))()
        self._off()
        if self.ranks is not None:
            self.ranks.close()

    @property
    def failure(self) -> Exception | None:
        """What ended the watching."""
        return self.guard.failure

    @property
    def rate(self) -> float | None:
        """The learning rate of now; the highest, where groups have their own."""
        optimizer = self._steps.optimizer
        return None if optimizer is None else learning_rate(optimizer)

    def _failed(self, error: Exception) -> None:
        self._off()
        if self.ranks is not None and not self.ranks.several:
            with suppress(Exception):  # what was read before the fault is still good
                self._handing.hand_over(self.step, self.ranks, wait=True)
        self.receiver.failed(error)

    def _off(self) -> None:
        try:
            if self._reader is not None:
                self._reader.discard()
        except Exception as error:  # what remains of a hook that has failed
            self.guard.failure = self.guard.failure or error
        for hook in (*self._hooks, self._parts):
            hook.remove()
        self._hooks = []
        self.events.held.release()

    def _entering(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if inside_backward() or self._steps.again:
            return
        self._read.entering(args, kwargs)
        if torch.is_grad_enabled():
            if not self._called:
                self._called = True
                self._parts.remove()
            self.events.held.take(self.model, args, kwargs, first=True)
            self._counts(args, kwargs)

    def _counts(self, args: Any, kwargs: Any) -> None:
        size = batch_size(args, kwargs) if self._read.on else 1
        self._size = size if self._stale else self._size + size
        self._fresh, self._stale = self._fresh + size, False

    def _left(self, _: nn.Module, __: Any, outputs: Any) -> None:
        if inside_backward() or self._steps.again:
            return
        self._read.left(outputs)
        if torch.is_grad_enabled():
            self._returned(outputs)

    def _returned(self, outputs: Any) -> None:
        self.events.held.returned(outputs, listen=self._read.on, guard=self.guard)
        self._ends.take(outputs)

    def _part_entering(self, part: nn.Module, args: Any, kwargs: Any, *, first: bool) -> None:
        """The loop calls a part of a model that it does not call itself."""
        if self._steps.again:
            return
        if first:
            self._counts(args, kwargs)
        self.events.held.take(part, args, kwargs, first=first)
        self._read.entering(args, kwargs, again=not first)

    def _part_left(self, outputs: Any) -> None:
        self._read.left(outputs)
        self._returned(outputs)

    def backward_begins(self, loss: Tensor | None, scale: Callable[[], float]) -> None:
        """See `steps.Listener`."""
        if self._called and not self._size:
            return  # of another model: this one has not been called since its last step
        if not self._ends.reached_by(loss):
            self._past = True
            return
        self._scale = scale() if self._read.on else 1.0
        if not self._backwards and self._read.on:
            self._read.starts_from(self._steps.optimizer)
        self._backwards += 1
        self.backwards += 1
        if self.backwards == IDLE_BACKWARDS and not self.step:
            self.receiver.idle(0, self.backwards)
        self._read.backward_begins(loss)
        if loss is None:
            return
        value: Any = loss.item() if loss.is_cpu else loss.detach()
        if loss.is_cpu:
            bad = not math.isfinite(value)
            self._handing.worrying |= bad
            if bad and not self.events.found:
                self._locate(loss)
        # What several backwards of one step add up to is the loss whose gradient is followed.
        self._loss = value if self._loss is None else self._loss + value

    def backward_ended(self) -> None:
        """See `steps.Listener`."""
        if self._past:
            self._past = False
            return
        self._fresh = 0
        self._read.backward_ended()
        if not self._read.on:
            self.events.held.release()

    def zeroed(self, owner: torch.optim.Optimizer | nn.Module) -> None:
        """See `steps.Listener`."""
        if not self._backwards or not self._steps.clears(owner):
            return
        # What those backwards were of goes nowhere: of another network that this one judges, or
        # of the point from which SAM has climbed.
        self._ends.several = True
        self._loss, self._backwards = None, 0
        self._size, self._stale = self._fresh or self._size, not self._fresh
        if self._read.on and not self._fresh:
            self._read.restart()

    def evaluated(self) -> None:
        """See `steps.Listener`."""
        self._read.hold()

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Listener`."""
        if self._read.on and self._backwards:
            bad = self._read.before(optimizer)
            self._handing.worrying |= bad
            if bad and not self.events.found:
                self._locate(None)

    def step_ended(self, optimizer: torch.optim.Optimizer | None) -> None:
        """See `steps.Listener`."""
        try:
            self._step_ended(optimizer)
        finally:
            self._turn(optimizer)
        if self._steps.leads(optimizer):
            self.receiver.stepped(self.step)

    def _step_ended(self, optimizer: torch.optim.Optimizer | None) -> None:
        if optimizer is None:
            self.skipped += 1
        looked = self._read.on and self._backwards > 0
        if looked:
            self._read.after(optimizer)
        if not self._steps.leads(optimizer):
            return
        look = self._look(optimizer) if looked else None
        self._handing.add(self.step, self._loss, look, self._read)
        self._handing.hand_over(self.step, self._ranks())
        if not self._read.on and self.schedule.urgent and not self._ranks().several:
            self._due = self.step + 1

    def _turn(self, optimizer: torch.optim.Optimizer | None) -> None:
        """The step is over; the next one begins."""
        if not self._steps.leads(optimizer):
            return
        now = time.perf_counter()
        looking = self._reader is not None and self._reader.on
        self.schedule.took(now - self._ended, self.guard.cost, looked=looking)
        self._ended, self.guard.cost = now, 0.0
        self.step += 1
        looked, missed = looking and self._backwards > 0, looking and not self._backwards
        if self._backwards:
            self._parts.settle()
        elif self.step == IDLE_STEPS and not self.backwards:
            self.guard(self.receiver.idle)(self.step, 0)
        if self._switches and self.model.training is not self._training:
            self._training = self.model.training
            self.schedule.alarm()
        self._loss, self._size, self._fresh, self._backwards = None, 0, 0, 0
        self._ends.settle()
        self.events.held.release()
        if self.failure is None:
            self._next(looked, missed)

    def _next(self, looked: bool, missed: bool) -> None:
        """Decides about the step that begins."""
        self._read.on = False
        if looked and self._read.count:
            due = self.schedule.after(self.step - 1)
            regular = self.schedule.every is not None
            self._due = self._ranks().decide(self.step - 1, due, regular=regular)
        elif self._due is None and self.step % ASKING == 0:
            self._due = self._ranks().told(self.step)
        if missed or (self._due is not None and self.step >= self._due):
            self._read.arm(thorough=self.schedule.urgent)
        elif looked:
            self._read.rest()

    def _ranks(self) -> Ranks:
        """The other processes: known when the first step is over."""
        if self.ranks is None:
            self.ranks = Ranks(self.root, self.model)
        return self.ranks

    def _look(self, optimizer: torch.optim.Optimizer | None) -> Later | None:
        """Everything of this step has been read; nobody waits for it."""
        facts = step_facts(self._named, optimizer or self._steps.optimizer, self._size)
        missing = set(facts.pop("optimizer.missing", ()))
        if self.step:  # in the first step another optimizer may still be to come
            held = self._steps.held()
            facts["optimizer.missing"] = [
                name for name, p in self._named if name in missing and id(p) not in held
            ]
        if self._switches:
            whole = not self.model.training  # else single ones were frozen on purpose
            in_eval = sum(whole and not m.training for m in self._switches)
            facts["model.in_eval"] = in_eval / len(self._switches)
        if self._ends.several:
            facts["loop.several"] = True
        if self._scale != 1.0 or self.skipped:
            facts.update({"watch.scale": self._scale, "watch.skipped": self.skipped})
        if self._loss is not None:
            facts["loss"] = self._loss
        facts["factor.backward"] = self._ranks().share / self._scale
        # After a GradScaler has taken the scale out; a fused optimizer does so itself.
        scaled = optimizer is None or getattr(optimizer, "grad_scale", None) is not None
        later = self._read.look(self.step, facts, self._scale, 1 / self._scale if scaled else 1.0)
        if later is not None:
            self.events.sheet = self._read.sheet
            self.events.looked(later)
        return later

    def catch_up(self) -> None:
        """Hands over what may still wait: somebody asks."""
        if self.failure is None and self.ranks is not None:
            self.guard(self._handing.hand_over)(self.step, self.ranks, ask=True)

    def _locate(self, loss: Tensor | None) -> None:
        with self.guard.paused():
            self.events.locate(self.step, self._read.nodes, loss)
