"""Copies made with what is known of a model are those that `copy.deepcopy` makes by itself."""

import copy

import torch
from torch import nn

from isograd.probe.stepping import Stepper, known_copies


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
