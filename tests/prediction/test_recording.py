import copy
import gc
import math
import pickle
import threading
import weakref
from collections.abc import Callable
from itertools import pairwise

import pytest
import torch
from torch import Tensor, nn
from torch.nn import init
from torch.nn.modules import module as registration
from torch.nn.utils import prune

from isograd.prediction.recording import Law, law_of, recording, values_law

# -- what stays real ----------------------------------------------------------------------------


class Mixed(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(5, 7)
        self.scale = nn.Parameter(torch.ones(7))
        self.logit = nn.Parameter(torch.tensor(2.65))
        self.register_buffer("table", torch.arange(9.0).sin())
        self.register_buffer("mask", self.causal())
        self.register_buffer("filled", torch.empty(4).fill_(3.0))
        self.register_buffer("on", torch.arange(3, device=self.linear.weight.device))
        self.sines = self.positions()
        self.drops = [x.item() for x in torch.linspace(0, 0.1, 3)]
        self.random = [torch.rand(4).argsort(), torch.rand(3) < 2.0, torch.rand(1).item()]

    def causal(self) -> Tensor:
        mask = torch.empty(6, 6)
        mask.fill_(float("-inf"))
        return mask.triu_(1)

    def positions(self) -> Tensor:
        table = torch.empty(30, 8)
        angle = torch.arange(30.0)[:, None] / 10 ** torch.arange(4.0)
        table[:, 0::2] = angle.sin()
        table[:, 1::2] = angle.cos()
        return table


def test_what_is_no_random_number_is_computed() -> None:
    with recording():
        seen = Mixed()
    real = Mixed()
    assert seen.linear.weight.is_meta
    for name in ("scale", "logit", "table", "mask", "filled", "on", "sines"):
        assert torch.equal(getattr(seen, name), getattr(real, name)), name
    assert seen.drops == real.drops
    order, certain, number = seen.random
    assert sorted(order.tolist()) == [0, 1, 2, 3]
    assert certain.all()
    assert 0 <= number <= 1


class DryRun(nn.Module):
    """Finds the width of its head by running its body, as many networks do."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True), nn.MaxPool2d(2)
        )
        self.memory = nn.LSTM(5, 4, batch_first=True)
        with torch.no_grad():
            width = self.body(torch.zeros(1, 3, 16, 20)).flatten(1).shape[1]
            length = self.memory(torch.zeros(2, 7, 5))[0].view(2, -1).shape[1]
        self.head = nn.Linear(width, length)
        self.lazy = nn.LazyLinear(3)
        self.lazy(torch.zeros(1, 6))


def test_shapes_can_be_found_by_running_parts() -> None:
    with recording():
        net = DryRun()
    assert net.head.weight.shape == (28, 504)
    assert net.lazy.weight.shape == (3, 6)
    assert all(law_of(p) is not None for p in net.parameters())
    assert all(law_of(p) is not None for p in copy.deepcopy(net).half().parameters())
    assert not net.body[1].running_mean.is_meta


def test_values_loaded_are_the_law() -> None:
    saved = nn.Linear(30, 40)
    with recording():
        copied, assigned = nn.Linear(30, 40), nn.Linear(30, 40)
        copied.load_state_dict(saved.state_dict())
        assigned.load_state_dict(saved.state_dict(), assign=True)
    assert law_of(copied.weight) == values_law(saved.weight)
    assert law_of(copied.weight).mean == 0
    assert torch.equal(assigned.weight, saved.weight)


def test_masks_of_random_numbers_are_real() -> None:
    with recording():
        layer = nn.Linear(6, 7)
        prune.random_unstructured(layer, "weight", amount=0.5)
    assert layer.weight_mask.sum() == 21
    assert law_of(layer.weight_orig) == Law(0.0, pytest.approx(1 / 18), "uniform")


def test_large_masks_and_tables_are_real() -> None:
    with recording():
        mask = torch.tril(torch.ones(5000, 5000)).view(1, 5000, 5000)
        table = torch.zeros(5000, 4000)
        table[1::2] = 1.0
        still = nn.Module()
        still.register_buffer("ones", torch.ones(4100, 4100))
    assert mask.sum() == 5000 * 5001 / 2
    assert table.mean() == 0.5
    assert still.ones.sum() == 4100**2


def test_large_constant_parameters_take_no_memory() -> None:
    class Experts(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.up = nn.Parameter(torch.zeros(1024, 8192, 28672))
            self.down = nn.Parameter(torch.full((1024, 28672, 8192), 0.5))
            self.gate = nn.Parameter(torch.ones(1001, 1003))
            self.drawn = nn.Parameter(torch.zeros(1001, 1003))
            init.normal_(self.drawn, std=0.3)

    with recording():
        experts = Experts()
    assert all(p.is_meta for p in experts.parameters())
    assert law_of(experts.up) == Law(0.0, 0.0, "zeros")
    assert law_of(experts.down) == Law(0.5, 0.0, "constant")
    assert law_of(experts.gate) == Law(1.0, 0.0, "constant")
    assert law_of(experts.drawn) == Law(0.0, pytest.approx(0.09), "normal")


def test_a_recorded_tensor_passes_for_a_real_one() -> None:
    with recording():
        weight = nn.Linear(3, 5).weight
        assert weight.device == torch.device("cpu")
        assert weight.is_cpu
        assert not weight.is_meta
        assert weight.numel() == 15
        assert weight.cuda() is weight
        assert torch.zeros_like(weight).device.type == "cpu"
        assert weight.new_zeros(3).sum() == 0
        assert weight.new_tensor([1.0, 2.0]).tolist() == [1.0, 2.0]
    assert weight.is_meta


def test_a_parameter_stays_the_same_object_when_it_is_recorded() -> None:
    with recording():
        holder = nn.ParameterList([torch.zeros(3, 5)])
        parameter = holder[0]
        parameter.mark = "mine"
        parameter.requires_grad = False
        init.normal_(parameter)
    assert holder[0] is parameter
    assert (parameter.mark, parameter.requires_grad) == ("mine", False)
    assert law_of(parameter) == Law(0.0, 1.0, "normal")


def test_generators_and_pinned_memory_need_not_be_there() -> None:
    with recording():
        assert law_of(torch.rand(3, pin_memory=True)) is not None
        assert law_of(torch.randn(3, generator=torch.Generator())) is not None


def test_a_real_model_is_left_as_it_is() -> None:
    old = nn.Linear(3, 5)
    before = copy.deepcopy(old.state_dict())
    with recording():
        net = nn.Sequential(old, nn.Linear(5, 2))
        again = copy.deepcopy(old)
    for name, value in old.state_dict().items():
        assert torch.equal(value, before[name])
        assert torch.equal(again.state_dict()[name], value)
    assert net[0].weight is old.weight
    assert not old.weight.is_meta


def test_no_generator_moves() -> None:
    state = torch.get_rng_state()
    with recording():
        Mixed()
        nn.Transformer(16, 2, 1, 1, 8, batch_first=True)
        nn.ParameterList([torch.zeros(5)])[0].data.fill_(1.0)
    assert torch.equal(torch.get_rng_state(), state)


# -- what a law outlives ------------------------------------------------------------------------


def net() -> nn.Module:
    with recording():
        return nn.Sequential(nn.Linear(3, 5), nn.Embedding(7, 2, padding_idx=1))


SURVIVED: dict[str, Callable[[nn.Module], nn.Module]] = {
    "nothing": lambda m: m,
    "half": lambda m: m.half(),
    "half and back": lambda m: m.half().float(),
    "to": lambda m: m.to(torch.float64),
    "deepcopy": copy.deepcopy,
    "deepcopy of a deepcopy": lambda m: copy.deepcopy(copy.deepcopy(m)),
    "half of a deepcopy": lambda m: copy.deepcopy(m).half(),
    "deepcopy of a half": lambda m: copy.deepcopy(m.half()),
    "requires_grad_": lambda m: m.requires_grad_(False),
    "eval": lambda m: m.eval(),
}


@pytest.mark.parametrize("inside", [False, True])
@pytest.mark.parametrize("name", SURVIVED)
def test_a_law_survives(name: str, inside: bool) -> None:
    before = [law_of(p) for p in net().parameters()]
    if inside:
        with recording():
            after = SURVIVED[name](net())
    else:
        after = SURVIVED[name](net())
    assert [law_of(p) for p in after.parameters()] == before
    assert None not in before


def test_a_law_survives_pickling() -> None:
    model = net()
    again = pickle.loads(pickle.dumps(model))
    laws = [law_of(p) for p in model.parameters()]
    assert [law_of(p) for p in again.parameters()] == laws
    assert [law_of(p) for p in copy.deepcopy(again).half().parameters()] == laws


def test_wrapping_tying_and_views_share_the_law() -> None:
    with recording():
        drawn = torch.empty(4, 6).normal_(1.0, 2.0)
        wrapped, holder = nn.Parameter(drawn), nn.Module()
        holder.register_parameter("wrapped", wrapped)
        holder.tied = holder.wrapped
        init.uniform_(holder.tied.data)
    uniform = Law(0.5, pytest.approx(1 / 12), "uniform")
    for tensor in (drawn, wrapped, holder.wrapped, wrapped.data, wrapped[1:, 2], wrapped.T):
        assert law_of(tensor) == uniform
    assert len(list(holder.parameters())) == 1


@pytest.mark.parametrize("look", [lambda t: t.data, lambda t: t.detach(), lambda t: t.view(-1)])
def test_tensors_that_share_memory_share_what_is_written(look: Callable[[Tensor], Tensor]) -> None:
    with recording():
        one = torch.empty(4, 4)
        other = look(one)
        other.fill_(2.0)
        one[0] = 6.0
    assert law_of(one) == law_of(other) == Law(3.0, pytest.approx(3.0), "mixed")


def test_new_data_is_the_law_from_then_on() -> None:
    with recording():
        layers = nn.ModuleList([nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(4, 6)])
        layers[0].weight.data = torch.randn(6, 4)
        with torch.no_grad():
            layers[1].weight.set_(torch.randn(6, 4))
        layers[2].weight.data = torch.full((6, 4), 3.0)
        layers.append(nn.ParameterList([torch.zeros(6, 4)]))
        layers[3][0].data = torch.randn(6, 4)
    for model in (layers, copy.deepcopy(layers), layers.half()):
        laws = [law_of(p) for p in model.parameters() if p.dim() == 2]
        assert laws[:2] == [Law(0.0, 1.0, "normal")] * 2
        assert laws[2] == Law(3.0, 0.0, "constant")
        assert laws[3] == Law(0.0, 1.0, "normal")


def test_random_buffers_keep_their_law() -> None:
    class Features(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("directions", torch.randn(3, 50) * 2)

    with recording():
        features = Features()
    assert law_of(features.directions) == Law(0.0, 4.0, "normal")
    assert law_of(copy.deepcopy(features).directions) == Law(0.0, 4.0, "normal")


def test_a_recorded_model_can_be_collected() -> None:
    model = net()
    watch = weakref.ref(model[0])
    storage = weakref.ref(model[0].weight.untyped_storage())
    del model
    gc.collect()
    assert watch() is None
    assert storage() is None


def test_a_law_of_real_and_unfilled_tensors() -> None:
    assert law_of(torch.randn(3)) is None
    assert law_of(torch.empty(3, device="meta")) is None
    with recording():
        assert law_of(torch.empty(3)) is None
        assert law_of(torch.empty(3).fill_(math.nan)) is None
        assert law_of(nn.Parameter(torch.empty(3)).mul_(2.0)) is None


# -- entering and leaving -----------------------------------------------------------------------


def untouched() -> None:
    assert not torch.nn.Linear(2, 2).weight.is_meta
    assert not torch.Tensor(2, 2).is_meta
    assert not registration._global_parameter_registration_hooks
    assert not registration._global_buffer_registration_hooks
    assert torch.overrides._get_current_function_mode_stack() == []


def test_nothing_stays_behind() -> None:
    with recording():
        assert law_of(torch.randn(2)) is not None
    untouched()
    with pytest.raises(ZeroDivisionError), recording():
        raise ZeroDivisionError
    untouched()


def test_recording_can_be_nested() -> None:
    with recording():
        with recording():
            inner = torch.randn(2)
        outer = nn.Linear(3, 5)
        with pytest.raises(ZeroDivisionError), recording():
            raise ZeroDivisionError
        last = torch.rand(2)
    for tensor in (inner, outer.weight, last):
        assert law_of(tensor) is not None
    untouched()


def test_recording_within_a_device() -> None:
    with torch.device("cpu"), recording(), torch.device("cpu"):
        assert law_of(nn.Linear(3, 5).weight) is not None
    with recording(), torch.device("meta"):
        inner = nn.TransformerEncoderLayer(4, 2, batch_first=True)
    with torch.device("meta"), recording():
        outer = nn.TransformerEncoderLayer(4, 2, batch_first=True)
        outer.mask = torch.full((3,), 2.0)
    for layer in (inner, outer):
        assert all(law_of(p) is not None for p in layer.parameters())
        assert law_of(layer.norm1.weight) == Law(1.0, 0.0, "constant")
    assert law_of(outer.mask) == Law(2.0, 0.0, "constant")
    with recording():
        assert law_of(nn.Linear(3, 5, device="meta").weight) is not None


def test_other_threads_build_for_real() -> None:
    seen: list[bool] = []
    with recording():
        thread = threading.Thread(target=lambda: seen.append(nn.Linear(2, 3).weight.is_meta))
        thread.start()
        thread.join()
    assert seen == [False]


def test_depth_costs_nothing_extra() -> None:
    with recording():
        stack = nn.Sequential(*(nn.Linear(3 + i % 2, 4 - i % 2) for i in range(1000)))
    assert all(law_of(p) is not None for p in stack.parameters())
    assert all(a.out_features == b.in_features for a, b in pairwise(stack))
