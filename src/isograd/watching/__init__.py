"""watch(): looks at a training while it runs, judges what it sees, and says what goes wrong."""

from collections.abc import Callable, Collection, Iterable
from os import PathLike
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal

from isograd.errors import StopTraining
from isograd.findings import Alarm, Diagnosis
from isograd.records import Reading, Record
from isograd.sinks import Sink
from isograd.watching._desk import Desk
from isograd.watching._desk import default_path as default_path
from isograd.watching._telling import describe as describe
from isograd.watching._telling import explain_events

if TYPE_CHECKING:
    import torch

OnFinding = Callable[[Alarm], Any] | Literal["warn", "raise", "stop"] | None


class Watch:
    """A training that is watched, from `open` (or `with`) to `close`; made by `isograd.watch`."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __repr__(self) -> str:
        raised = sum(alarm.state == "raised" for alarm in self.alarms)
        return f"<Watch: {self.step} steps, {raised} alarms stand>"

    def open(self) -> "Watch":
        """Begins to watch: the coming step is the first that is looked at."""
        self._desk.open()
        return self

    def close(self, outcome: str = "finished") -> None:
        """Ends it: the model is as it was, and every sink has everything."""
        self._desk.close(outcome)

    def __enter__(self) -> "Watch":
        return self.open()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> bool:
        if isinstance(error, StopTraining):
            self.close("stopped at a finding")
            return True
        self.close("finished" if kind is None else f"ended by {kind.__name__}")
        return False

    @property
    def step(self) -> int:
        """Optimizer steps done, those included that a GradScaler left out."""
        return self._desk.watcher.step

    @property
    def _current(self) -> Desk:
        self._desk.watcher.catch_up()
        return self._desk

    @property
    def reading(self) -> Reading | None:
        """The first look and later ones, old ones thinned out; None before the first step."""
        return self._current.reading

    @property
    def record(self) -> Record | None:
        """The latest look; None before the first step."""
        reading = self.reading
        return None if reading is None else reading.last

    @property
    def losses(self) -> tuple[tuple[int, float], ...]:
        """(step, loss) of the steps so far, old ones thinned out."""
        return tuple(self._current.losses.items)

    @property
    def alarms(self) -> tuple[Alarm, ...]:
        """Every alarm so far, raised or withdrawn, in order of its first step."""
        return self._current.alarms.all

    @property
    def diagnosis(self) -> Diagnosis | None:
        """What the rules say of everything seen so far; None before the first step."""
        return self._current.judge()

    @property
    def overhead(self) -> float:
        """Share of the time since it began that watching has cost."""
        return self._desk.overhead

    @property
    def failure(self) -> Exception | None:
        """What ended the watching before its time; the training was not touched by it."""
        return self._desk.watcher.failure

    def explain_nan(self) -> str | None:
        """Where the first non-finite value came from; None as long as all values are finite."""
        return explain_events(self.reading, self._desk.watcher.events.found, self.losses)


def watch(
    model: "torch.nn.Module",
    optimizer: "torch.optim.Optimizer | None" = None,
    *,
    run: str | PathLike[str] | None = None,
    overhead: float = 0.02,
    every: int | None = None,
    sinks: Iterable[str | Sink] = ("sqlite",),
    on_finding: OnFinding = "warn",
    rules: Collection[str] = (),
    name: str | None = None,
) -> Watch:
    """Watches a training; nothing in its loop changes, and not a bit of what it computes.

    ```python
    with isograd.watch(model, optimizer, run="runs/today.isograd") as watch:
        for inputs, targets in data:
            optimizer.zero_grad()
            loss = loss_function(model(inputs), targets)
            loss.backward()
            optimizer.step()
    ```

    Activations and their gradients, parameters, their gradients and their updates are read at some
    steps: all of the first few, then as many as the budget allows, and more at a sign of trouble.
    A fault in here ends the watching with a warning, never the training.

    Args:
        model: what the loop calls: any module, also one that is compiled or distributed. A model
            that is to be compiled is watched from before its first step.
        optimizer: whose steps count; the first that holds parameters of the model if left out.
        run: the run file; `isograd-runs/` and the time if left out. `isograd tail` follows it.
        overhead: share of the time that watching may cost. The first look costs about a step.
        every: steps between two looks, in place of the budget; 1 looks at every step.
        sinks: where readings go: codes (sqlite, jsonl, console, tensorboard, wandb, mlflow …) or
            instances. Of several processes, that of rank 0 writes.
        on_finding: what happens when a finding of severity warning or above is raised: `"warn"`,
            `"raise"` (UntrainableError out of `optimizer.step()`), `"stop"` (the `with` block ends
            there), a function of the alarm, whose errors reach the loop, or None.
        rules: codes of rules, or prefixes such as `IG1`, to judge by; all where empty.
        name: what to call the run; the file's name if left out.

    Returns:
        A Watch, for `with`, or for `open()` and `close()`.

    Raises:
        InputError: an argument cannot be used as it is.
        CatalogueError: no sink has this code.
    """
    return Watch(
        Desk(
            model,
            optimizer,
            run=run,
            overhead=overhead,
            every=every,
            sinks=sinks,
            on_finding=on_finding,
            rules=rules,
            name=name,
        )
    )
