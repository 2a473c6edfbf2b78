"""Layers of torch.nn that are made like earlier ones are what torch would make."""

import copy
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.modules import module as registration

from isograd.prediction.drawing.rulebook import session
from isograd.prediction.recording import law_of, recording, same_values

Maker = Callable[[], nn.Module]
LAYERS: list[Maker] = [
    lambda: nn.Linear(3, 4),
    lambda: nn.Linear(3, 4, bias=False),
    lambda: nn.Linear(3, 4, dtype=torch.float16),
    lambda: nn.Bilinear(3, 4, 5),
    lambda: nn.Conv2d(4, 6, (3, 1), padding=1, groups=2),
    lambda: nn.ConvTranspose1d(4, 6, 3),
    lambda: nn.BatchNorm2d(5),
    lambda: nn.BatchNorm1d(5, affine=False),
    lambda: nn.InstanceNorm1d(5),
    lambda: nn.LayerNorm((5, 2)),
    lambda: nn.RMSNorm(5),
    lambda: nn.GroupNorm(2, 4),
    lambda: nn.Embedding(5, 6),
    lambda: nn.PReLU(),
    lambda: nn.LSTMCell(3, 4),
]


def told(value: Any) -> Any:
    """An attribute as far as it can be compared."""
    if isinstance(value, dict):
        return type(value), [(key, told(one)) for key, one in value.items()]
    if isinstance(value, Tensor):
        values = law_of(value) if value.is_meta else value.tolist()
        return type(value), value.shape, value.dtype, value.requires_grad, values
    return type(value), value


@pytest.mark.parametrize("make", LAYERS)
def test_a_cast_layer_is_one_that_was_made(make: Maker) -> None:
    with recording():
        first, second, third = make(), make(), make()
        assert len(session.molds) == 1
    with recording():
        again = make()
    assert told(vars(second)) == told(vars(first)) == told(vars(again))
    assert not same_values(nn.ModuleList([first, second]))
    both = nn.ModuleList([second, copy.deepcopy(second)])
    drawn = [p for p in second.parameters() if (law := law_of(p)) and law.variance]
    assert len(same_values(both)) == len(drawn)
    laws = [law_of(p) for p in second.parameters()]
    assert [law_of(p) for p in second.half().parameters()] == laws
    buffers = [one.data_ptr() for layer in (first, second, third) for one in layer.buffers()]
    assert len(set(buffers)) == len(buffers)


def test_what_happens_to_a_layer_does_not_happen_to_later_ones() -> None:
    with recording():
        first = nn.BatchNorm1d(5)
        nn.init.normal_(first.weight)
        first.eps, first.running_mean = 0.5, torch.ones(5)
        first.register_forward_hook(print)
        first.bias.requires_grad_(False)
        later = nn.BatchNorm1d(5)
    fresh = nn.BatchNorm1d(5)
    assert told(vars(later)["_buffers"]) == told(vars(fresh)["_buffers"])
    assert later.eps == fresh.eps
    assert not later._forward_hooks
    assert later.bias.requires_grad
    assert [law.kind for p in later.parameters() if (law := law_of(p))] == ["constant", "zeros"]


# -- what construction depends on ---------------------------------------------------------------


@contextmanager
def replaced(owner: Any, name: str, value: Any) -> Iterator[None]:
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


@contextmanager
def default_dtype() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    try:
        yield
    finally:
        torch.set_default_dtype(torch.float32)


def zeroed(layer: nn.Linear) -> None:
    nn.init.zeros_(layer.weight)


@pytest.mark.parametrize(
    "around",
    [
        lambda: replaced(nn.init, "kaiming_uniform_", lambda t, **_: nn.init.zeros_(t)),
        lambda: replaced(nn.Linear, "reset_parameters", zeroed),
        default_dtype,
    ],
)
@pytest.mark.parametrize("after", [False, True])
def test_other_surroundings_make_another_layer(around: Callable[[], Any], after: bool) -> None:
    with recording():
        if not after:
            with around():
                nn.Linear(3, 4)
        layers = [nn.Linear(3, 4)]
        with around():
            layers.append(nn.Linear(3, 4))
        layers.append(nn.Linear(3, 4))
    first, second, third = (told(one.weight) for one in layers)
    assert first == third != second


def test_an_initialization_of_ones_own_is_run_for_each_layer() -> None:
    made: list[int] = []

    def graded(layer: nn.Linear) -> None:
        made.append(len(made) + 1)
        nn.init.normal_(layer.weight, std=made[-1])

    with replaced(nn.Linear, "reset_parameters", graded), recording():
        layers = [nn.Linear(3, 4) for _ in range(3)]
    assert [law.variance for one in layers if (law := law_of(one.weight))] == [1, 4, 9]


def test_hooks_see_every_parameter() -> None:
    seen: list[str] = []
    hooks: Any = registration
    added = hooks.register_module_parameter_registration_hook(
        lambda module, name, param: seen.append(name)
    )
    try:
        with recording():
            nn.Linear(3, 4)
            nn.Linear(3, 4)
    finally:
        added.remove()
    assert seen == ["weight", "bias"] * 2


def test_a_tensor_that_is_given_is_the_weight() -> None:
    with recording():
        weight = torch.empty(3, 4).normal_()
        first, second = nn.Embedding(3, 4, _weight=weight), nn.Embedding(3, 4, _weight=weight)
    assert same_values(nn.ModuleList([first, second])) == [["0.weight", "1.weight"]]


def test_subclasses_are_made_by_themselves() -> None:
    class Own(nn.Linear):
        def __init__(self, width: int) -> None:
            super().__init__(width, width)
            self.width = width

        def reset_parameters(self) -> None:
            nn.init.zeros_(self.weight)

    with recording():
        layers = [nn.Linear(3, 3), Own(3), Own(3), nn.Linear(3, 3)]
        layers[2].__init__(4)  # type: ignore[misc]
    kinds = [law.kind for one in layers if (law := law_of(one.weight))]
    assert kinds == ["uniform", "zeros", "zeros", "uniform"]
    assert layers[2].weight.shape == (4, 4)


def test_layers_of_layers_and_those_made_anew_are_no_molds() -> None:
    with recording():
        several = [nn.AdaptiveLogSoftmaxWithLoss(8, 10, (4,)) for _ in range(2)]
        odd = nn.Linear(3, 4, dtype=None)
        vars(odd)["extra"] = 1
        odd.__init__(3, 4, device=None)  # type: ignore[misc]
        later = nn.Linear(3, 4, device=None)
    assert several[0].state_dict().keys() == several[1].state_dict().keys()
    assert not hasattr(later, "extra")


def test_torch_is_left_as_found() -> None:
    before = {kind: kind.__init__ for kind in (nn.Linear, nn.BatchNorm2d, nn.Conv2d)}
    real: list[nn.Module] = []

    def elsewhere() -> None:
        real.append(nn.Linear(3, 4))
        with recording():
            nn.Linear(3, 4)

    def here() -> None:
        nn.Linear(3, 4)
        thread = threading.Thread(target=elsewhere)
        thread.start()
        thread.join()
        assert law_of(nn.Linear(3, 4).weight)
        assert nn.Linear.__init__ is not before[nn.Linear]
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError), recording():
        here()
    assert not next(real[0].parameters()).is_meta
    assert before == {kind: kind.__init__ for kind in before}
