"""What stands around a module, and how a program's first training is found."""

import json

import pytest
import torch
from torch import nn

from isograd.integrations import scripts
from isograd.integrations._modules import whole_of, wrapper_of


class Autoencoder(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Linear(7, 3), nn.Linear(3, 7)


class System(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.inner, self.metric = Autoencoder(), nn.Linear(2, 2)


def ids(*modules: nn.Module) -> set[int]:
    return {id(p) for module in modules for p in module.parameters()}


def test_the_whole_is_the_smallest_module_with_all_of_it():
    system = System()
    inner = system.inner
    assert whole_of(inner.encoder, ids(inner.encoder)) is inner.encoder
    assert whole_of(inner.encoder, ids(inner)) is inner
    assert whole_of(inner.encoder, ids(system)) is system
    assert whole_of(inner.encoder, ids(inner) | {1}) is inner  # one that no module has
    assert whole_of(inner, ids(inner) | {1}) is inner


def test_the_wrapper_of_a_model():
    model, head = nn.Linear(7, 3), System()
    head.module = model  # no wrapper, whatever it is called
    assert wrapper_of(model) is model
    parallel = nn.DataParallel(model)
    assert wrapper_of(model) is parallel


@pytest.fixture
def armed(tmp_path, monkeypatch):
    options = {"run": str(tmp_path / "r.isograd"), "sinks": [], "note": str(tmp_path / "note")}
    monkeypatch.setenv(scripts.VARIABLE, json.dumps(options))
    kept = []

    def register(function, *args, **kwargs):  # torch registers functions of its own
        if isinstance(getattr(function, "__self__", None), scripts._Finder):
            kept.append(function)
        return function

    monkeypatch.setattr(scripts.atexit, "register", register)
    before = torch.optim.Optimizer.__init__, nn.Module.__call__
    scripts.arm()
    yield kept
    for close in kept:
        close()
    assert before == (torch.optim.Optimizer.__init__, nn.Module.__call__)


def test_the_first_call_that_is_trained_is_watched_as_a_whole(armed):
    model, teacher = Autoencoder(), nn.Linear(7, 7)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    inputs = torch.randn(5, 7)
    teacher(inputs)
    with torch.no_grad():
        model.encoder(inputs)
    assert not armed
    model.decoder(model.encoder(inputs)).sum().backward()
    optimizer.step()
    (close,) = armed
    watch = close.__self__._watch
    assert watch.reading.seen.step == 0
    assert [site.name for site in watch.record.sites] == ["encoder", "decoder"]
    assert watch.failure is None


def test_what_cannot_be_watched_is_left_alone(armed, monkeypatch):
    monkeypatch.setattr("isograd.watching.watch", None)
    model = nn.Linear(7, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    assert optimizer.param_groups
    with pytest.warns(UserWarning, match="nothing is watched"):
        model(torch.randn(5, 7))
    assert not armed
