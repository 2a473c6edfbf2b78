"""The desk: takes what the watcher sees, keeps it, judges it, and tells sinks and user."""

import math
import sys
import time
from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from os import PathLike
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from isograd.alarms import Alarms
from isograd.diagnosis import diagnose
from isograd.errors import InputError, StopTraining, UntrainableError, a_kind, warn
from isograd.findings import Alarm, Diagnosis
from isograd.probe.thinning import Thinned
from isograd.records import Reading, Record, RunInfo
from isograd.sinks import Sink, Sinks
from isograd.watching._ending import Ending
from isograd.watching._telling import describe, nothing

if TYPE_CHECKING:
    import torch

ON_FINDING = ("warn", "raise", "stop")

RECENT, OLDER = 32, 32
"""Looks that are kept: the latest ones, and of those before some, evenly spread."""

LOSSES = 512
"""Losses that are kept, likewise."""

JUDGING = 0.25
"""Share of the budget that judging may take: the first looks are judged in any case."""

ALWAYS = 8
"""Looks that are judged whatever it costs."""

SPIKE = 3.0
"""A loss this many times the largest of the latest ones is a sign of trouble, and so is one whose
median over `STANDING` steps is this many times what it was before them."""

BEFORE, STANDING = 16, 8

SELDOM = 1.25
"""Growth of the step number after which a look is judged whatever it costs."""

ALARMED = 4
"""Looks after such a loss that are judged whatever it costs."""

BATCH_OF_LOSSES = 64
"""Losses that go to the sinks at once, where no look carries them along."""

FRESH = 1.0
"""Seconds after which a look does: every record has the loss of its own step."""


class Desk:
    """One watched training; the arguments are those of `isograd.watch`."""

    def __init__(
        self,
        model: "torch.nn.Module",
        optimizer: "torch.optim.Optimizer | None",
        *,
        run: str | PathLike[str] | None,
        overhead: float,
        every: int | None,
        sinks: Iterable[str | Sink],
        on_finding: Callable[[Alarm], Any] | str | None,
        rules: Collection[str],
        name: str | None,
    ) -> None:
        _check(model, optimizer, overhead, every, on_finding)
        from isograd.probe.live.schedule import Schedule
        from isograd.probe.live.watcher import Watcher
        from isograd.rules import RULES

        chosen = (rules,) if isinstance(rules, str) else tuple(rules)
        for code in chosen:
            if not any(rule.code.startswith(code) for rule in RULES):
                raise InputError(f"watch: rules: no rule has the code {code!r}; see isograd rules")
        self._rules = chosen
        self._budget = overhead
        self._on_finding = on_finding
        self.raised: BaseException | None = None
        self.path = Path(run) if run is not None else default_path()
        self._name = name or self.path.stem
        given = (sinks,) if isinstance(sinks, (str, Sink)) else sinks
        self._sinks: Sinks | None = Sinks(given)
        self.losses: Thinned[tuple[int, float]] = Thinned(recent=LOSSES, older=LOSSES)
        self.alarms = Alarms()
        self._first: Record | None = None
        self._later: Thinned[Record] = Thinned(recent=RECENT, older=OLDER)
        self._looks = 0
        self._pending: list[tuple[int, float]] = []
        self._judging = 0.0
        self._last: Diagnosis | None = None
        self._open = False
        self._ending = Ending(lambda: self.watcher.ranks)
        self._model, self._optimizer = model, optimizer
        self.watcher = Watcher(model, optimizer, Schedule(every, overhead), self)

    def open(self) -> None:
        """Begins."""
        if self._open:
            raise InputError("watch: it has begun already; make another for another training")
        self._open = True
        if self._apart():
            self.idle(0, 0)
        self.watcher.open()

    def close(self, outcome: str) -> None:
        """Ends."""
        if not self._open:
            return
        self._open = False
        self._on_finding = None if self._on_finding in ("raise", "stop") else self._on_finding
        self.watcher.close()
        if self._sinks is None or not self._ours():
            return
        if not self.watcher.step and self.watcher.failure is None:
            self.idle(0, self.watcher.backwards)
        self._begin()
        final = self.judge()
        if final is not None:
            step = max([final.reading.last.step, *(step for step, _ in self.losses.latest(1))])
            self._tell(self.alarms.update(step, final, last=True))
        self._flush()
        self._sinks.alarms(self.alarms.all)
        self._sinks.close(final, outcome)
        self._sinks = None

    @property
    def reading(self) -> Reading | None:
        """Everything that is kept."""
        if self._first is None:
            return None
        history = self._later.items
        pairs = self.losses.items
        fact: dict[str, Any] = {"watch.losses": [[s for s, _ in pairs], [v for _, v in pairs]]}
        if self.watcher.rate is not None:
            fact["optimizer.lr"] = self.watcher.rate  # the losses go up to now, and so does it
        if not history:
            return Reading(replace(self._first, facts={**self._first.facts, **fact}))
        last = replace(history[-1], facts={**history[-1].facts, **fact})
        return Reading(self._first, history=(*history[:-1], last))

    @property
    def overhead(self) -> float:
        """Share of the time since it began that watching has cost."""
        return self.watcher.schedule.overhead

    def judge(self) -> Diagnosis | None:
        """What the rules say of everything so far."""
        reading = self.reading
        return None if reading is None else diagnose(reading, select=self._rules)

    # -- what the watcher sees -----------------------------------------------------------------

    def looked(self, record: Record) -> None:
        """See `receiver.Receiver`."""
        if self._first is None:
            self._first = record
        else:
            self._later.append(record)
        self._looks += 1
        self._begin()
        if time.monotonic() - self._flushed >= FRESH:
            self._flush()
        if self._sinks is not None:
            self._sinks.record(record)
        allowed = JUDGING * self._budget * self.watcher.schedule.trained
        calm = not self.watcher.schedule.urgent and not _broken(record)
        calm = calm and not self._alarmed and record.step < SELDOM * self._judged
        self._alarmed = max(0, self._alarmed - 1)
        if self._looks > ALWAYS and self._judging > allowed and calm:
            return
        self._judged = record.step
        start = time.perf_counter()
        self._last = self.judge()
        changes = () if self._last is None else self.alarms.update(record.step, self._last)
        if self._looks > 1:  # the first time rules are loaded
            self._judging += time.perf_counter() - start
        self._tell(changes)

    def lost(self, step: int, value: float) -> bool:
        """See `receiver.Receiver`."""
        latest = [v for _, v in self.losses.latest(BEFORE + STANDING) if math.isfinite(v)]
        self.losses.append((step, value))
        self._pending.append((step, value))
        if len(self._pending) >= BATCH_OF_LOSSES:
            self._flush()
        if step < self._quiet or (math.isfinite(value) and not _spikes([*latest, value])):
            return False
        self._alarmed, self._quiet = ALARMED, step + BEFORE + STANDING
        return True

    def stepped(self, steps: int) -> None:
        """See `receiver.Receiver`."""
        if self._on_finding is None or self._on_finding == "warn":
            return
        try:
            error = self._ending.due(steps)
        except Exception as fault:  # of the store; the training goes on
            self._on_finding = None
            warn(f"watch: nothing ends this training any more ({type(fault).__name__}: {fault})")
            return
        if error is not None:
            self._on_finding = None
            self.raised = error
            raise error

    def failed(self, error: Exception) -> None:
        """See `receiver.Receiver`."""
        warn(
            f"watch: watching ended at step {self.watcher.step} because of a fault of its own; "
            f"training goes on unwatched ({type(error).__name__}: {error})"
        )

    def idle(self, steps: int, backwards: int) -> None:
        """See `receiver.Receiver`."""
        if self._idle or not self._ours():
            return
        self._idle = True
        arrived = any(p.grad is not None for p in self._model.parameters())
        warn(f"watch: {nothing(steps, backwards, apart=self._apart(), arrived=arrived)}")

    # -- telling ---------------------------------------------------------------------------------

    def _apart(self) -> bool:
        """Whether the optimizer that was given can never step this model."""
        if self._optimizer is None:
            return False
        ours = {id(p) for p in self._model.parameters()}
        return all(id(p) not in ours for g in self._optimizer.param_groups for p in g["params"])

    def _ours(self) -> bool:
        """Whether this process writes: alone, or of rank 0."""
        ranks = self.watcher.ranks
        return ranks is None or ranks.rank == 0

    def _begin(self) -> None:
        """Opens the sinks: late, because a process may not know its rank any earlier."""
        if self._sinks is None or self._started or not self._ours():
            return
        self._started = True
        now = time.strftime("%Y-%m-%dT%H:%M:%S+00:00", time.gmtime())
        first = {} if self._first is None else self._first.facts
        facts = {k: v for k, v in first.items() if k.startswith(("model.", "optimizer."))}
        facts.update({"watch.budget": self._budget, **_machine()})
        self._sinks.open(RunInfo(self._name, str(self.path), now, facts))

    _started = _idle = False

    _judged = _alarmed = _quiet = 0
    """The step that was judged last, looks to come that are judged because of a loss, and the step
    before which no further loss is news."""

    _flushed = -math.inf

    def _flush(self) -> None:
        self._flushed = time.monotonic()
        if self._pending and self._sinks is not None and self._started:
            self._sinks.losses(self._pending)
            self._pending = []
        if len(self._pending) > 100 * BATCH_OF_LOSSES:  # of another rank than 0
            self._pending = []

    def _tell(self, changes: Iterable[Alarm]) -> None:
        changes = tuple(changes)
        if not changes:
            return
        if self._sinks is not None and self._started:
            self._sinks.alarms(changes)
        for alarm in changes:
            if alarm.state == "raised":
                self._act(alarm)

    def _act(self, alarm: Alarm) -> None:
        act = self._on_finding
        if act is None:
            return
        text = describe(alarm)
        if act == "warn":
            warn(text)
        elif act == "raise":
            self._ending.ask(UntrainableError(text), self.watcher.step)
        elif act == "stop":
            warn(f"training is stopped at {text}")
            self._ending.ask(StopTraining(text), self.watcher.step)
        elif callable(act):
            try:
                act(alarm)
            except Exception as error:  # the user's own, meant for the loop
                self._ending.ask(error, self.watcher.step)


def _check(model: Any, optimizer: Any, overhead: float, every: int | None, on_finding: Any) -> None:
    import torch

    if not isinstance(model, torch.nn.Module):
        raise InputError(
            f"watch: model: expected a torch.nn.Module, found {a_kind(model)}; pass the "
            "module that the loop calls"
        )
    if not any(p.requires_grad for p in model.parameters()):
        raise InputError(
            "watch: model: no parameter asks for a gradient, so that nothing trains; set "
            "requires_grad before watching"
        )
    if optimizer is not None and not isinstance(optimizer, torch.optim.Optimizer):
        raise InputError(
            f"watch: optimizer: expected a torch.optim.Optimizer, found "
            f"{a_kind(optimizer)}; leave it out to count the steps of whichever holds "
            "parameters of the model"
        )
    number = isinstance(overhead, (int, float)) and not isinstance(overhead, bool)
    if not number or not 0 < overhead <= 1:
        raise InputError(
            f"watch: overhead={overhead!r}; it is a share of the time, above 0 and at most 1"
        )
    if every is not None and (not isinstance(every, int) or isinstance(every, bool) or every < 1):
        raise InputError(f"watch: every={every!r}; it is a number of steps, 1 or more, or None")
    if on_finding is not None and on_finding not in ON_FINDING and not callable(on_finding):
        raise InputError(
            f"watch: on_finding={on_finding!r}; it is one of {', '.join(ON_FINDING)}, a function "
            "of the alarm, or None"
        )


def _spikes(losses: list[float]) -> bool:
    """Whether the last of some losses, or the last few, are far above those before."""
    if len(losses) <= STANDING:
        return False
    past, latest = losses[:-1], losses[-1]
    largest = max(past[-BEFORE:])
    if latest > SPIKE * largest > 0:
        return True
    before = losses[:-STANDING]
    usual = median(before) if len(before) >= STANDING else 0.0
    return usual > 0 and median(losses[-STANDING:]) > SPIKE * usual


def _broken(record: Record) -> bool:
    """Whether something is non-finite, which is judged whatever it costs."""
    keys = ("forward.nonfinite", "weight.nonfinite", "weight.grad_nonfinite")
    loss = record.facts.get("loss.value")
    return (loss is not None and not math.isfinite(loss)) or any(
        number for key in keys for _, number in record.pairs(key)
    )


def default_path() -> Path:
    """The run file where none is named: a folder here, and the time."""
    return Path("isograd-runs") / time.strftime("%Y-%m-%d-%H%M%S.isograd")


def _machine() -> dict[str, Any]:
    import torch

    return {"torch.version": str(torch.__version__), "python.version": sys.version.split()[0]}
