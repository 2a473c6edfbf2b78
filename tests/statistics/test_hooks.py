"""Native hooks: what they read, what they leave to Python, and that nothing is left of them."""

import gc
import weakref
from array import array
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from isograd.statistics import Place, Table
from isograd.statistics._extension import extension
from isograd.statistics.hooks import Shared, forward_hook, gradient_hook

pytestmark = pytest.mark.skipif(extension() is None, reason="built without a compiler")


class Hooked:
    """Two tables, a pair of hooks, and what these left to Python."""

    def __init__(self, *, modes: bool = False) -> None:
        self.state = array("d", [0.0, 0.0])
        self.thorough, self.seen = array("B", [0]), array("B", [0])
        self.forward, self.backward = (Table([Place()], "cpu") for _ in range(2))
        self.left: list[str] = []
        owners = self.state, self.thorough, self.seen
        shared = Shared(*(owner.buffer_info()[0] for owner in owners))
        there, back = self.forward.part_reader(0), self.backward.part_reader(0)
        assert there is not None
        assert back is not None
        self.back = gradient_hook(shared, back, self.slow_back)
        self.hook = forward_hook(shared, there, self.slow, self.back, modes=modes)

    def slow(self, module: nn.Module, args: Any, output: Any) -> None:
        self.left.append("output")

    def slow_back(self, gradient: Tensor) -> None:
        self.left.append("gradient")

    def counts(self) -> tuple[float, float]:
        """Entries that were read, there and back."""
        return self.forward.values[0, 0].item(), self.backward.values[0, 0].item()


def run(hooked: Hooked, model: nn.Module | None = None, x: Tensor | None = None) -> Tensor:
    model = nn.Linear(3, 5) if model is None else model
    handle = model.register_forward_hook(hooked.hook)
    out: Tensor = model(torch.randn(7, 3) if x is None else x)
    handle.remove()
    return out


def test_outputs_and_gradients_are_read() -> None:
    hooked = Hooked()
    out = run(hooked)
    (out * torch.arange(5.0)).sum().backward()
    truth = Table([Place()] * 2, "cpu")
    truth.read(0, out)
    truth.read(1, torch.arange(5.0).expand(7, 5))
    assert torch.equal(hooked.forward.values[0], truth.values[0])
    assert torch.equal(hooked.backward.values[0], truth.values[1])
    assert hooked.left == []
    assert hooked.seen[0] == 1
    assert 0 < hooked.state[1] < 1


@pytest.mark.parametrize(
    "x",
    [
        torch.ones(7, 3),  # asks for no gradient
        (torch.ones(3), 1),
        nn.Parameter(torch.ones(3)),
        torch.ones(2, 3, requires_grad=True).to(torch.complex64),
    ],
    ids=["no gradient", "tuple", "parameter", "complex"],
)
def test_what_is_unusual_is_left_to_python(x: Any) -> None:
    hooked = Hooked()
    run(hooked, nn.Identity(), x)
    assert hooked.left == ["output"]
    assert hooked.counts() == (0, 0)


def test_what_was_seen_and_what_is_looked_at_thoroughly_too() -> None:
    hooked = Hooked()
    hooked.seen[0] = 1
    run(hooked)
    hooked.seen[0], hooked.thorough[0] = 0, 1
    (run(hooked) * torch.arange(5.0)).sum().backward()
    assert hooked.left == ["output", "output"]
    hooked.back(torch.ones(3))
    assert hooked.left[-1] == "gradient"
    assert hooked.counts() == (0, 0)


def test_a_gradient_that_is_not_contiguous_is_left_to_python() -> None:
    hooked = Hooked()
    run(hooked).t().contiguous().square().sum().backward()
    assert hooked.left == ["gradient"]
    assert hooked.counts() == (35, 0)


def test_switched_off_they_do_nothing() -> None:
    hooked = Hooked()
    out = run(hooked)
    hooked.state[0] = 1.0
    out.sum().backward()
    run(hooked)
    assert hooked.counts() == (35, 0)
    assert hooked.left == []


def test_hooks_of_others_are_called_and_can_be_removed() -> None:
    hooked, told = Hooked(), []
    model = nn.Linear(3, 5)
    first = model.register_forward_hook(lambda *given: given[2].register_hook(told.append) and None)
    before = run(hooked, model)
    first.remove()
    hooked.seen[0] = 0
    after, weights = run(hooked, model), torch.arange(5.0)
    after.register_hook(told.append)
    after.register_hook(told.append).remove()
    ((before + after) * weights).sum().backward()
    assert len(told) == 2
    assert hooked.counts() == (70, 70)


def test_an_in_place_operation_afterwards_changes_nothing() -> None:
    hooked = Hooked()
    out = run(hooked)
    out.mul_(3.0).sum().backward()
    assert hooked.backward.values[0, 4].item() == 3 * 35  # of the output as the module gave it


def test_an_error_of_torch_is_left_to_python(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any) -> None:
        raise RuntimeError("no")

    hooked = Hooked()
    monkeypatch.setattr(Tensor, "register_hook", fails)
    run(hooked)  # an output without a hook takes none of it
    assert hooked.left == []
    hooked.seen[0] = 0
    leaf = torch.ones(3, requires_grad=True)
    run(hooked, nn.Identity(), leaf)
    assert hooked.left == ["output"]
    assert hooked.counts()[0] == 35
    assert leaf._backward_hooks is None


def test_a_mode_sees_nothing_of_it() -> None:
    class Mode(TorchFunctionMode):
        names: list[str] = []  # noqa: RUF012

        def __torch_function__(
            self, func: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            self.names.append(func.__name__)
            return func(*args, **(kwargs or {}))

    hooked, model, x = Hooked(modes=True), nn.Linear(3, 5), torch.randn(7, 3)
    with Mode() as mode:
        model(x)
        expected = list(mode.names)
        mode.names.clear()
        run(hooked, model, x)
        assert mode.names == expected
        assert torch.overrides._get_current_function_mode() is mode
    assert hooked.counts()[0] == 35


def test_nothing_is_kept_alive() -> None:
    hooked = Hooked()
    out = run(hooked)
    out.sum().backward()
    gone = weakref.ref(out), weakref.ref(hooked), weakref.ref(hooked.forward)
    gc.collect()
    gc.disable()
    try:
        del out
        assert gone[0]() is None
    finally:
        gc.enable()
    del hooked
    gc.collect()
    assert [one() for one in gone] == [None, None, None]


def test_wrong_calls_are_errors() -> None:
    native = extension()
    assert native is not None
    with pytest.raises(TypeError, match="expected 7 arguments, got 1"):
        native.forward_hook(1)
    with pytest.raises(TypeError):
        native.gradient_hook("a", 0, 0, None, None, None, None)
    with pytest.raises(TypeError):
        Hooked().hook()
