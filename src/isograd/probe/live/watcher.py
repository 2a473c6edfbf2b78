"""The watcher: one training seen from outside, look by look."""

import math
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import wraps
from statistics import median
from typing import Any

import torch
from torch import Tensor, nn

from isograd.probe.facts import step_facts
from isograd.probe.live.compiled import (
    Compilations,
    Traced,
    forget_graphs,
    is_compiled,
    plain_module,
)
from isograd.probe.live.events import Events
from isograd.probe.live.first import FirstLook, batch_size
from isograd.probe.live.looks import joined, record_of, spread_out
from isograd.probe.live.parameters import Parameters
from isograd.probe.live.payload import LAG, Later, Losses, Payload
from isograd.probe.live.ranks import Ranks
from isograd.probe.live.receiver import Receiver
from isograd.probe.live.schedule import Schedule
from isograd.probe.live.sheet import Sheet
from isograd.probe.live.steps import Steps, inside_backward
from isograd.probe.live.taps import Taps
from isograd.records import Record
from isograd.sites.tape import Node

UNSEEN = 10
"""Steps without a forward of the model after which watching is given up."""

THOROUGH = 8
"""Every how many looks samples are compared, too."""


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
        self.failure: Exception | None = None
        self.events = Events(self.model, schedule.alarm)
        self.ranks: Ranks | None = None
        self.sheet: Sheet | None = None
        self._steps = Steps(self.model, optimizer, self)
        self._parameters: Parameters | None = None
        self._first: FirstLook | None = None
        self._taps: Taps | Traced | None = None
        self._nodes: list[Node] = []
        self._due: int | None = 0
        self._looking = False
        self._looks = 0
        self._hooks: list[Any] = []
        self._losses = Losses()
        self._later: deque[tuple[int, Later]] = deque()
        self._firsts: dict[int, Record] = {}
        self._loss: Any = None
        self._scale = 1.0
        self._size = 0
        self._backwards = 0
        self._unseen = 0
        self.begun = self._ended = time.perf_counter()
        self._pace: deque[float] = deque(maxlen=16)
        self._cost = 0.0

    def open(self) -> None:
        """Begins to watch: the next step is the first."""
        self.begun = self._ended = time.perf_counter()
        self._steps.open()
        self.guard(self._open)()

    def _open(self) -> None:
        if not any(m._compiled_call_impl is not None for m in (self.root, self.model)):
            enter = self.root.register_forward_pre_hook(
                self.guard(self._entering), with_kwargs=True
            )
            leave = self.root.register_forward_hook(self.guard(self._left))
            self._hooks += [enter, leave]
        if is_compiled(self.root):
            forget_graphs()
            self._taps = Traced(self.model, self.guard)
        else:  # a function around it may be compiled all the same
            self._hooks.append(Compilations(self._compiling))
        self._arm()

    def _compiling(self) -> None:
        """Torch compiles something: no tape may stand in its way, and hooks are to be seen."""
        if self._first is None or self.failure is not None:
            return
        try:
            self._first.discard()
            self._first = None
            self._taps = Traced(self.model, self.guard)
            self._taps.attach(thorough=False)
        except Exception as error:
            self.fail(error)

    def close(self) -> None:
        """Takes everything off, and passes on what is still on its way."""
        self._steps.close()
        if self.failure is None:
            self.guard(self._pass_on)(wait=True)
        self._off()

    def guard(self, hook: Callable[..., Any]) -> Callable[..., Any]:
        """The hook, timed, which cannot raise, and does nothing once something has failed."""

        @wraps(hook)
        def guarded(*args: Any, **kwargs: Any) -> Any:
            # torch.compile reads what it finds on a module: it is to find nothing here.
            if torch.compiler.is_compiling() or self.failure is not None:
                return None
            start = time.perf_counter()
            try:
                return hook(*args, **kwargs)
            except Exception as error:
                if error is self.receiver.raised:
                    raise
                self.fail(error)
                return None
            finally:
                self._cost += time.perf_counter() - start

        return guarded

    def fail(self, error: Exception) -> None:
        """Gives up watching; the training goes on."""
        if self.failure is None:
            self.failure = error
            self._off()
            self.receiver.failed(error)

    def _off(self) -> None:
        for part in (self._first, self._taps):
            if part is not None:
                try:
                    part.discard()
                except Exception as error:  # what remains of a hook that has failed
                    self.failure = self.failure or error
        for hook in self._hooks:
            hook.remove()
        self._hooks = []
        self.events.held.release()

    def _entering(self, _: nn.Module, args: Any, kwargs: Any) -> None:
        if not torch.is_grad_enabled() or inside_backward():
            return
        self.events.held.take(args, kwargs)
        self._size += batch_size(args, kwargs)
        if self._first is not None:
            self._first.entering(args, kwargs)
        elif self._looking and self._taps is not None:
            self._taps.restart()

    def _left(self, _: nn.Module, __: Any, outputs: Any) -> None:
        if not torch.is_grad_enabled() or inside_backward():
            return
        self.events.held.returned(outputs, listen=self._looking, guard=self.guard)
        if self._first is not None:
            self._first.left(outputs)

    def backward_begins(self, loss: Tensor | None, scale: float) -> None:
        """See `steps.Listener`."""
        self.guard(self._backward_begins)(loss, scale)

    def _backward_begins(self, loss: Tensor | None, scale: float) -> None:
        self._scale = scale
        self._backwards += 1
        if self._first is not None:
            self._first.backward_begins(loss)
        if loss is None:
            return
        value: Any = loss.detach()
        if value.device.type == "cpu":
            value = float(value)
            if not math.isfinite(value) and not self.events.found:
                self._locate(loss)
        # What several backwards of one step add up to is the loss whose gradient is followed.
        self._loss = value if self._loss is None else self._loss + value

    def backward_ended(self) -> None:
        """See `steps.Listener`."""
        self.guard(self._backward_ended)()

    def _backward_ended(self) -> None:
        if self._looking and self._taps is not None:
            self._taps.backward_ended()
        if not self._looking:
            self.events.held.release()

    def step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        """See `steps.Listener`."""
        self.guard(self._step_begins)(optimizer)

    def _step_begins(self, optimizer: torch.optim.Optimizer) -> None:
        if self._looking and self._backwards:
            self._read_parameters(optimizer)

    def _read_parameters(self, optimizer: torch.optim.Optimizer | None) -> None:
        parameters = self._ready()
        groups = [] if optimizer is None else optimizer.param_groups
        parameters.before({id(p) for g in groups for p in g["params"]}, self._looks)
        gradients = parameters.gradients.values
        if (
            gradients.device.type == "cpu"
            and not self.events.found
            and float(gradients[:, 1].sum())
        ):
            self._locate(None)

    def step_ended(self, optimizer: torch.optim.Optimizer | None) -> None:
        """See `steps.Listener`."""
        try:
            self.guard(self._step_ended)(optimizer)
        finally:
            self._turn(optimizer)

    def _step_ended(self, optimizer: torch.optim.Optimizer | None) -> None:
        if optimizer is None:
            self.skipped += 1
        if self._looking and self._parameters is not None:
            self._parameters.after()
        if not self._steps.leads(optimizer):
            return
        if self._looking and self._backwards:
            if self._parameters is None or not self._parameters.read:
                self._read_parameters(optimizer)  # its backward came inside of its step (LBFGS)
            self._look(optimizer)
        self._losses.add(self.step, self._loss)
        self._pass_on(wait=False)
        several = self.ranks is not None and self.ranks.several
        if not self._looking and self.schedule.urgent and not several:
            self._due = self.step + 1

    def _turn(self, optimizer: torch.optim.Optimizer | None) -> None:
        """The step is over; the next one begins."""
        if not self._steps.leads(optimizer):
            return
        now = time.perf_counter()
        if not self._looking:
            self._pace.append(now - self._ended - self._cost)
        self._ended = now
        self.schedule.spent += self._cost
        self._cost = 0.0
        self.step += 1
        was_looking, looked = self._looking, self._backwards > 0
        self._loss, self._size, self._backwards, self._looking = None, 0, 0, False
        self.events.held.release()
        if self.failure is None:
            self.guard(self._next)(was_looking and looked, was_looking and not looked)

    def _next(self, looked: bool, missed: bool) -> None:
        """Decides about the step that begins."""
        if looked and self._looks:
            pace = median(self._pace) if self._pace else self._ended - self.begun
            due = self.schedule.after(self.step - 1, self._ended - self.begun, pace)
            self._due = due if self.ranks is None else self.ranks.decide(due)
        if missed or (self._due is not None and self.step >= self._due):
            self._arm()

    def _arm(self) -> None:
        """The coming step is looked at."""
        self._looking = True
        if self._parameters is not None:
            self._parameters.clear()
        if self._taps is not None:
            self._taps.attach(thorough=self._looks % THOROUGH == 0 or self.schedule.urgent)
        elif self._first is None:
            self._first = FirstLook(self.model, self.guard, self.fail)
            self._first.start()

    def _ready(self) -> Parameters:
        """What reads parameters: made when they are where they will be."""
        if self._parameters is None:
            devices = [p.device for p in self.model.parameters()]
            device = devices[0] if devices else torch.device("cpu")
            self._parameters = Parameters(self.model, device)
            self.ranks = Ranks(self.root, self.model)
        return self._parameters

    def _look(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Everything of this step has been read; nobody waits for it."""
        parameters = self._ready()
        assert self.ranks
        facts = step_facts(self.model, optimizer or self._steps.optimizer, self._size)
        if self._scale != 1.0 or self.skipped:
            facts.update({"watch.scale": self._scale, "watch.skipped": self.skipped})
        # After a GradScaler has taken the scale out; a fused optimizer does so itself.
        scaled = optimizer is None or getattr(optimizer, "grad_scale", None) is not None
        grads = 1 / self._scale if scaled else 1.0
        tables: dict[str, Tensor] = {}
        if self._first is not None and not self._finish_first(facts, grads):
            return
        assert self._taps is not None
        if self.sheet is None:
            assert isinstance(self._taps, Traced)
            self.sheet = self._taps.sheet()
        for key in ("forward", "backward"):
            tables[key] = getattr(self._taps, key).values
        tables["gradients"] = parameters.gradients.values
        tables["weights"] = parameters.weights.values
        tables["moved"] = parameters.moved
        rows = len(self.sheet.sites)
        for key, found in self._taps.numbers.items():
            tables[key] = spread_out(found, rows, tables["forward"].device)
        facts["factor.backward"] = self.ranks.share / self._scale
        facts["factor.gradients"] = grads
        if self._loss is not None:
            facts["loss"] = self._loss
        self._later.append((self.step, Later(tables, self._taps.forward.flags, facts)))
        self._taps.detach()
        self._looks += 1
        self.events.sheet = self.sheet
        self.events.looked(self.step, self._taps.forward.values)

    def _finish_first(self, facts: dict[str, Any], grads: float) -> bool:
        """The first look: its record is made at once, and later ones get their sheet."""
        first, self._first = self._first, None
        assert first is not None
        if not first.seen:
            first.discard()
            self._unseen += 1
            if self._unseen == UNSEEN:
                raise RuntimeError(
                    f"in {UNSEEN} steps no forward of the model was seen before a backward; watch "
                    "the module that the loop calls"
                )
            return False
        found = [p.grad for p in self.model.parameters()]
        if grads != 1.0:
            found = [None if g is None else g * grads for g in found]
        record, self.sheet, rows = first.finish(found, self.step, self._scale)
        self._nodes = first.tape.nodes
        self._firsts[self.step] = replace(record, facts={**record.facts, **facts})
        self._taps = Taps(self.model, self.sheet, self._ready().device, self.guard)
        self._taps.forward.values.copy_(rows["forward"])
        self._taps.backward.values.copy_(rows["backward"])
        return True

    def _pass_on(self, *, wait: bool) -> None:
        """Hands over what has arrived."""
        for step, value in self._losses.arrived(self.step, wait=wait):
            if self.receiver.lost(step, value):
                self.schedule.alarm()
        while self._later and (
            wait or self._later[0][1].ready() or self.step - self._later[0][0] >= LAG
        ):
            step, later = self._later.popleft()
            self._arrived(step, later.get())
        if self.ranks is not None and self.ranks.several and self.ranks.rank == 0:
            for step, payload in self.ranks.received(wait=wait):
                self._tell(step, payload)

    def _arrived(self, step: int, payload: Payload) -> None:
        assert self.ranks
        assert self.sheet
        self.events.in_rows(step, self.sheet, payload.rows)
        for key, event in self.events.found.items():
            payload.facts[key] = {**event, "rank": self.ranks.rank}
        if self.ranks.several:
            self.ranks.send(step, payload)
        else:
            self._tell(step, payload)

    def _tell(self, step: int, payload: Payload) -> None:
        assert self.sheet is not None
        record = record_of(self.sheet, payload, step)
        first = self._firsts.pop(step, None)
        if first is not None:
            record = joined(first, record)
        self.receiver.looked(record)

    def _locate(self, loss: Tensor | None) -> None:
        nodes = self._nodes if self._first is None else self._first.tape.nodes
        self.events.locate(self.step, nodes, loss)
