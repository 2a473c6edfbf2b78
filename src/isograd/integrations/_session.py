"""The session: a watched training that begins and ends at the hooks of somebody else's loop."""

import atexit
import itertools
import os
import sys
from typing import TYPE_CHECKING, Any

from isograd.errors import InputError, warn
from isograd.findings import Alarm
from isograd.watching import describe, watch

if TYPE_CHECKING:
    import torch

    from isograd.watching import Watch

OPTIONS = ("run", "overhead", "every", "sinks", "on_finding", "rules", "name")

AHEAD = 2
"""Steps until all processes stop: who takes part in one step more has heard of it."""

_COUNT = itertools.count()


class Session:
    """One `isograd.watch`, again for each training that begins.

    Args:
        name: whose options these are.
        options: arguments of `isograd.watch`, without model and optimizer.

    Raises:
        InputError: there is no such argument.
    """

    def __init__(self, name: str, options: dict[str, Any]) -> None:
        if unknown := sorted(set(options) - set(OPTIONS)):
            raise InputError(
                f"{name}: no argument {unknown[0]!r}; there is {', '.join(OPTIONS)}, those of "
                "isograd.watch"
            )
        self._options = options
        self.watch: Watch | None = None
        self._stops: _Stops | None = None
        self._open = False
        self._process = 0

    def start(self, model: "torch.nn.Module", optimizer: "torch.optim.Optimizer | None") -> None:
        """A training begins."""
        self.close("ended by an exception")  # nobody told of the end of the one before
        options = dict(self._options)
        if options.get("on_finding") == "stop":
            self._stops = _Stops()
            options["on_finding"] = self._stop
        self.watch = watch(model, optimizer, **options).open()
        self._open, self._process = True, os.getpid()
        atexit.register(self._at_exit)

    def close(self, outcome: str = "finished") -> None:
        """The training is over."""
        if self._open and self.watch is not None:
            self._open = False
            atexit.unregister(self._at_exit)
            self.watch.close("stopped at a finding" if self.stopping else outcome)

    @property
    def stopping(self) -> bool:
        """Whether a finding has been raised at which the training is to stop, now."""
        return (
            self._stops is not None and self.watch is not None and self._stops.due(self.watch.step)
        )

    def _stop(self, alarm: Alarm) -> None:
        assert self._stops is not None
        assert self.watch is not None
        warn(f"training is stopped at {describe(alarm)}")
        self._stops.ask(self.watch.step)

    def _at_exit(self) -> None:
        if os.getpid() == self._process:  # else it is a copy, in a forked process
            self.close(outcome_at_exit())


def outcome_at_exit() -> str:
    """How this process ends, as far as Python knows."""
    kind = getattr(sys, "last_type", None)
    return "finished" if kind is None else f"ended by {kind.__name__}"


class _Stops:
    """Makes all processes of a training stop after the same step, without a collective."""

    def __init__(self) -> None:
        import torch

        self._at: int | None = None
        self._store: Any = None
        dist = torch.distributed
        if dist.is_available() and dist.is_initialized() and dist.get_world_size() > 1:
            from torch.distributed.distributed_c10d import PrefixStore, _get_default_store

            self._store = PrefixStore(f"isograd/stop/{next(_COUNT)}", _get_default_store())

    def ask(self, step: int) -> None:
        """Stop, please: says rank 0, the only one that judges."""
        if self._at is not None:
            return
        self._at = step
        if self._store is not None:
            self._at = step + AHEAD
            self._store.set("at", str(self._at))

    def due(self, step: int) -> bool:
        """Whether this many steps are enough."""
        if self._at is None and self._store is not None and self._store.check(["at"]):
            self._at = int(self._store.get("at"))
        return self._at is not None and step >= self._at
