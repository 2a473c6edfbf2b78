"""A model that is watched can be saved and copied; nothing of the watching is in it."""

import copy
import io
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn, optim
from watched_loops import data, plain

import isograd


class Own(nn.Module):
    """Has a state of its own, and a hook that is to stay; the classes here are not isograd's."""

    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(data()[0].shape[1], 8), nn.Linear(8, 4)
        self.a.register_forward_hook(doubled)

    def __getstate__(self) -> dict[str, object]:
        return {**self.__dict__, "trainer": None}

    def forward(self, x: Tensor) -> Tensor:
        return self.b(self.a(x).relu())


def doubled(module: nn.Module, given: tuple[Tensor, ...], out: Tensor) -> Tensor:
    return 2 * out


def stored(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    file.seek(0)
    return torch.load(file, weights_only=False)


def pickled(model: nn.Module) -> nn.Module:
    text = pickle.dumps(model)
    assert b"isograd" not in text
    return pickle.loads(text)


@pytest.mark.parametrize("again", [stored, pickled, copy.deepcopy])
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_copy_has_the_users_hooks_alone(
    again: Callable[[nn.Module], nn.Module], steps: int
) -> None:
    torch.manual_seed(0)
    model = Own()
    with isograd.watch(model, every=1, sinks=(), on_finding=None):
        plain(model, optim.SGD(model.parameters(), 0.1), steps=steps)
        twin = again(model)
        x = data()[0]
        assert torch.equal(twin(x), model(x))
    hooks = [h for m in twin.modules() for h in m._forward_hooks.values()]
    assert hooks == [doubled]
    assert not any(m._forward_pre_hooks for m in twin.modules())
    assert "__reduce_ex__" not in vars(nn.Module)


def test_a_file_that_was_written_while_watching_needs_no_isograd(tmp_path: Path) -> None:
    model = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    optimizer = optim.SGD(model.parameters(), 0.1)
    with isograd.watch(model, optimizer, every=1, sinks=(), on_finding=None):
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(16, 8)).square().mean().backward()
            optimizer.step()
        torch.save(model, tmp_path / "model.pt")
    code = (
        "import sys, torch; sys.modules['isograd'] = None; "
        f"m = torch.load({str(tmp_path / 'model.pt')!r}, weights_only=False); "
        "print(tuple(m(torch.ones(1, 8)).shape))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "(1, 2)"
