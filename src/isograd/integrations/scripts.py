"""Scripts: `isograd watch` finds what somebody's program trains, without a line in it."""

import atexit
import json
import os
import sys
import weakref
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

from isograd.errors import StopTraining, warn
from isograd.integrations._session import outcome_at_exit

if TYPE_CHECKING:
    import torch

    from isograd.watching import Watch

VARIABLE = "ISOGRAD_WATCH"
"""Environment variable that holds the arguments of `isograd.watch` as JSON, and `note`."""

SITE = Path(__file__).parent / "site"


def environment(options: Mapping[str, Any], note: str | os.PathLike[str]) -> dict[str, str]:
    """The environment in which a program is watched.

    Args:
        options: arguments of `isograd.watch`, plain.
        note: a file that gets a line with the run file of each training that is watched.
    """
    paths = [str(SITE), *filter(None, [os.environ.get("PYTHONPATH")])]
    told = json.dumps({**options, "note": os.fspath(note)})
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), VARIABLE: told}


def arm() -> None:
    """Called in the program, once torch is there: its first training will be watched."""
    options = json.loads(os.environ[VARIABLE])
    note = options.pop("note")
    _Finder(options, note).listen()


class _Finder:
    """Waits for an optimizer, then for the outermost call of a module whose parameters it holds.

    Args:
        options: arguments of `isograd.watch`.
        note: where to tell what is watched.
    """

    def __init__(self, options: dict[str, Any], note: str) -> None:
        self._options, self._note = options, note
        self._optimizers: weakref.WeakSet[torch.optim.Optimizer] = weakref.WeakSet()
        self._replaced: list[tuple[Any, str, Any, Any]] = []
        self._calling = False
        self._depth = 0
        self._process = os.getpid()
        self._watch: Watch | None = None

    def listen(self) -> None:
        """Begins to wait."""
        import torch

        self._replace(torch.optim.Optimizer, "__init__", self._making)

    def _replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        original = getattr(owner, name)
        ours = wraps(original)(make(original))
        self._replaced.append((owner, name, original, ours))
        setattr(owner, name, ours)

    def _rest(self) -> None:
        for owner, name, original, ours in self._replaced:
            if getattr(owner, name) is ours:  # else somebody else has replaced it since
                setattr(owner, name, original)
        self._replaced = []

    def _making(self, original: Any) -> Any:
        def init(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            if self._replaced:
                self._made(optimizer)

        return init

    def _made(self, optimizer: Any) -> None:
        import torch

        self._optimizers.add(optimizer)
        if not self._calling:
            self._calling = True
            self._replace(torch.nn.Module, "__call__", self._call)

    def _call(self, original: Any) -> Any:
        def call(module: Any, *args: Any, **kwargs: Any) -> Any:
            if not self._replaced or os.getpid() != self._process:
                return original(module, *args, **kwargs)
            if not self._depth:
                self._called(module)
            self._depth += 1
            try:
                return original(module, *args, **kwargs)
            finally:
                self._depth -= 1

        return call

    def _called(self, module: "torch.nn.Module") -> None:
        """A module is called, and no other one is under way."""
        import torch

        if not torch.is_grad_enabled() or torch.compiler.is_compiling():
            return
        try:
            ours = {id(p) for p in module.parameters() if p.requires_grad}
            for optimizer in list(self._optimizers):
                held = {id(p) for g in optimizer.param_groups for p in g["params"]}
                if ours & held:
                    self._rest()
                    self._begin(module, optimizer, held)
                    return
        except Exception as error:
            self._rest()
            warn(f"isograd watch: nothing is watched ({type(error).__name__}: {error})")

    def _begin(
        self, module: "torch.nn.Module", optimizer: "torch.optim.Optimizer", held: set[int]
    ) -> None:
        from isograd.integrations._modules import whole_of
        from isograd.watching import watch

        self._watch = watch(whole_of(module, held), optimizer, **self._options).open()
        atexit.register(self._at_exit)
        self._sys_excepthook, sys.excepthook = sys.excepthook, self._excepthook
        with open(self._note, "a", encoding="utf-8") as file:
            file.write(f"{self._options['run']}\n")

    def _excepthook(self, kind: Any, error: Any, trace: Any) -> None:
        if not issubclass(kind, StopTraining):  # which has been told already
            self._sys_excepthook(kind, error, trace)

    def _at_exit(self) -> None:
        if self._watch is not None and os.getpid() == self._process:
            outcome = outcome_at_exit()
            stopped = outcome == f"ended by {StopTraining.__name__}"
            self._watch.close("stopped at a finding" if stopped else outcome)
