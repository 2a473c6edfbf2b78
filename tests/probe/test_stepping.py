"""Copies made with what is known of a model are those that `copy.deepcopy` makes by itself."""

import copy

import torch
from torch import nn

from isograd.probe.copying import known_copies
from isograd.probe.stepping import Stepper


class Shared(nn.Module):
    """Buffers of every kind: that share memory, views, strided, twice by name, none."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("whole", torch.randn(4, 3))
        whole = self.whole
        assert isinstance(whole, torch.Tensor)
        self.register_buffer("again", whole)
        self.register_buffer("row", whole[1])
        self.register_buffer("turned", torch.randn(3, 4).t())
        self.register_buffer("second", torch.randn(6)[::2])
        self.register_buffer("wide", torch.randn(1).expand(4))
        self.register_buffer("none", None)
        self.view = whole[2]


def test_a_copy_shares_what_the_model_shares_and_nothing_with_it() -> None:
    model = Shared()
    made, plain = copy.deepcopy(model, known_copies(model)), copy.deepcopy(model)
    for name, buffer in plain.named_buffers():
        own = made.get_buffer(name)
        assert torch.equal(own, buffer)
        assert own.stride() == buffer.stride()
    before = model.state_dict(keep_vars=True)["whole"].clone()
    made.get_buffer("whole").fill_(7.0)
    assert made.get_buffer("again") is made.get_buffer("whole")
    assert bool((made.get_buffer("row") == 7).all())
    assert bool((made.view == 7).all())
    assert torch.equal(model.get_buffer("whole"), before)
    made.norm(torch.randn(8, 3))
    assert not model.get_buffer("norm.running_mean").any()


def test_weights_that_are_no_numbers_are_seen_whatever_their_type() -> None:
    def finite(value: complex, dtype: torch.dtype) -> bool:
        model = nn.ParameterList([nn.Parameter(torch.full((3,), value, dtype=dtype))])
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        return Stepper(model, optimizer, None, 0, "trial").finite_weights()

    for dtype in (torch.float32, torch.bfloat16, torch.complex64):
        assert finite(1.0, dtype)
        assert not finite(float("nan"), dtype)
        assert not finite(float("inf"), dtype)


class Odd(nn.Module):
    """Attributes of every kind, among them other modules, and modules that copy themselves."""

    def __init__(self) -> None:
        super().__init__()
        self.first = nn.Linear(4, 4)
        self.last = nn.Linear(4, 4)
        self.last.weight = self.first.weight
        self.again = self.first
        self.memory = nn.LSTM(4, 4)
        self.shaped = nn.utils.parametrizations.weight_norm(nn.Linear(4, 4))
        self.own = CopiesItself()
        self.seen = [self.first, torch.ones(2)]
        self.named = {"last": self.last, (1, 2): [0]}
        self.size = (4, torch.ones(1))
        self.hooked = nn.Identity()
        self.hooked.register_forward_hook(self.count)
        self.counted = 0

    def count(self, *_: object) -> None:
        self.counted += 1


class CopiesItself(nn.Module):
    def __deepcopy__(self, _: object) -> "CopiesItself":
        made = CopiesItself()
        made.copied = True
        return made


def test_modules_are_copied_as_a_deep_copy_would_whatever_they_hold() -> None:
    model = Odd()
    made = copy.deepcopy(model, known_copies(model))
    assert type(made) is Odd
    assert made.again is made.first is made.seen[0]
    assert made.named["last"] is made.last
    assert made.last.weight is made.first.weight
    assert made.first.weight is not model.first.weight
    assert made.own.copied
    assert not hasattr(model.own, "copied")
    mine = {id(m) for m in model.modules()} | {id(p) for p in model.parameters()}
    assert not mine & ({id(m) for m in made.modules()} | {id(p) for p in made.parameters()})
    x = torch.randn(3, 4)
    made.hooked(x)  # a bound method is that of the copy
    assert (made.counted, model.counted) == (1, 0)
    for part in ("first", "last", "shaped"):
        assert torch.equal(made.get_submodule(part)(x), model.get_submodule(part)(x))
    assert torch.equal(made.memory(x)[0], model.memory(x)[0])
    made.named[1, 2].append(1)
    made.size[1].zero_()
    assert model.named[1, 2] == [0]
    assert model.size[1] == 1
    with torch.no_grad():
        made.first.weight.zero_()
    assert bool(model.first.weight.any())
    assert list(vars(made)) == list(vars(copy.deepcopy(model)))


def test_what_an_optimizer_remembers_is_copied_with_its_model() -> None:
    model = nn.Linear(3, 2)
    optimizer = torch.optim.Adam(model.parameters())
    model(torch.randn(4, 3)).sum().backward()
    optimizer.step()
    twin, its = copy.deepcopy((model, optimizer), known_copies(model, optimizer))
    assert its.param_groups[0]["params"][0] is twin.weight
    for mine, copied in zip(model.parameters(), twin.parameters(), strict=True):
        for name, value in optimizer.state[mine].items():
            assert torch.equal(its.state[copied][name], value)
            assert its.state[copied][name].data_ptr() != value.data_ptr()
    plain, other = copy.deepcopy((model, optimizer))
    for net, one in ((twin, its), (plain, other)):  # as if it had been copied by itself
        for parameter, given in zip(net.parameters(), model.parameters(), strict=True):
            parameter.grad = given.grad
        one.step()
    assert all(map(torch.equal, twin.parameters(), plain.parameters()))
    assert not torch.equal(twin.weight, model.weight)
