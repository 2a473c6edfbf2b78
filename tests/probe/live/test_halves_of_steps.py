"""Loops in which half of every step is missing: said while they run, once."""

import warnings

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from watched_loops import data

import isograd


def net() -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(data()[0].shape[1], 8), nn.ReLU(), nn.Linear(8, 4))


def told(loop: str, steps: int) -> list[tuple[int, str]]:
    """Steps of the loop at which a warning came, and its words."""
    model, other = net(), net()
    optimizer = torch.optim.SGD((other if loop == "another" else model).parameters(), 0.1)
    x, y = data()
    found: list[tuple[int, str]] = []
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        watch = isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None).open()
        for step in range(steps):
            optimizer.zero_grad()
            loss = F.cross_entropy(model(x), y)
            if loop == "by hand":
                wanted = list(model.parameters())
                for p, g in zip(wanted, torch.autograd.grad(loss, wanted), strict=True):
                    p.grad = g
            elif loop != "no backward":
                loss.backward()
            if loop != "no step":
                optimizer.step()
            found += [(step, str(w.message)) for w in caught[len(found) :]]
        watch.close()
        found += [(steps, str(w.message)) for w in caught[len(found) :]]
    return found


@pytest.mark.parametrize(
    ("loop", "steps", "at", "words"),
    [
        ("no backward", 20, 2, "3 steps and no gradient; call loss.backward()"),
        ("by hand", 20, 2, "came from no backward() of this model"),
        ("no step", 300, 255, "256 backward passes, and no step"),
        ("no step", 20, 20, "20 backward passes, and no step"),
        ("another", 20, 0, "the optimizer holds no parameter of the model"),
    ],
)
def test_what_is_missing_is_said_once(loop: str, steps: int, at: int, words: str) -> None:
    ((step, text),) = told(loop, steps)
    assert step == at
    assert words in text


def test_whole_steps_say_nothing() -> None:
    assert told("whole", 6) == []


def test_a_module_that_nobody_trains() -> None:
    with (
        pytest.warns(UserWarning, match="watch the very module that the loop calls"),
        isograd.watch(net(), sinks=()),
    ):
        pass
