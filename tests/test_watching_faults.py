"""A fault injected into every hook and every step of watching leaves the training running."""

from typing import Any

import pytest
import torch

import isograd
from isograd.probe.alike import Alike
from isograd.probe.live.handing import Handing
from isograd.probe.live.reader import Reader
from isograd.probe.live.taps import Taps
from isograd.probe.live.watcher import Watcher
from isograd.watching._desk import Desk
from test_watching import boom, healthy, train

PLACES = (
    [(Watcher, name) for name in ("_open _entering _left _step_ended _next _look _locate".split())]
    + [(Handing, name) for name in "add hand_over _arrived _hear _tell".split()]
    + [
        (Reader, name)
        for name in (
            "arm entering left backward_begins backward_ended before after look record rest".split()
        )
    ]
    + [(Taps, name) for name in "attach detach _returned _read _gradient".split()]
    + [(Alike, name) for name in "add numbers _compare".split()]
    + [(Desk, name) for name in "looked lost judge _tell _begin _flush".split()]
)


@pytest.mark.filterwarnings("ignore::isograd.errors.IsogradWarning")
@pytest.mark.parametrize("after", [0, 3])
@pytest.mark.parametrize(("owner", "name"), PLACES)
def test_a_fault_anywhere_leaves_training_running(
    owner: type, name: str, after: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = train(healthy(), steps=20)
    original, calls = getattr(owner, name), []

    def failing(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) > after:
            boom()
        return original(*args, **kwargs)

    monkeypatch.setattr(owner, name, failing)
    model = healthy()
    watch = isograd.watch(model, sinks=(), every=1, on_finding=None)
    watch.open()
    found = train(model, steps=20)
    monkeypatch.undo()
    watch.close()
    assert all(torch.equal(a, b) for a, b in zip(found, expected, strict=True))
    hooks = [m._forward_hooks or m._forward_pre_hooks for m in model.modules()]
    assert not any(hooks)
