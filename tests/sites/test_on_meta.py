"""Sites and parameters are told without a value: on the meta device as on live tensors."""

import copy
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from isograd.probe.measuring import measure
from isograd.records import Parameter, Site
from isograd.sites.batches import Batch, as_batch
from isograd.sites.parameters import following, parameters_of, uses
from isograd.sites.places import Places, Row
from isograd.sites.tape import Frame, Tape
from patients.odd import ODD
from patients.zoo import HEALTHY

ELSEWHERE = {
    "bert": "asks its mask for a number",
    "packed_sequence": "lengths are values",
    "weight_norm_by_hook": "no copies",
    "weird_attributes": "no copies",
    "scripted": "no parameters can be put into it",
    "traced": "no parameters can be put into it",
    "scripted_part": "no parameters can be put into it",
    "vmapped_ensemble": "tensors that are no parameters or buffers",
    "remembering": "tensors that are no parameters or buffers",
    "growing": "tensors that are no parameters or buffers",
    "layers_in_a_list": "tensors that are no parameters or buffers",
    "random_depth": "another depth at each call",
}
"""Patients that cannot go to the meta device, or are not twice the same."""


class Silent(Places):
    """Takes no numbers; notes what it is called with."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[Row, tuple[int, ...], Frame | None]] = []
        self.additions: list[tuple[int, int]] = []

    def read(self, tape: Tape, row: Row, out: Tensor, frame: Frame | None, /) -> None:
        assert tape.node_of(out) is row.node
        self.seen.append((row, tuple(out.shape), frame))

    def residual(self, tape: Tape, skip: Tensor, branch: Tensor, /) -> None:
        nodes = (tape.node_of(skip), tape.node_of(branch))
        self.additions.append((nodes[0].index, nodes[1].index))


def listened(model: nn.Module, batch: Batch) -> tuple[Silent, Tape]:
    listener = Silent()
    tape = Tape(model, listener)
    with tape.recording():
        tape.take(batch)
        batch.call(model)
    return listener, tape


def described(model: nn.Module, batch: Batch) -> tuple[list[Site], list[Parameter], Any, Any]:
    listener, tape = listened(model, batch)
    used, layouts = uses(tape)
    sites = [row.site() for row in listener.rows]
    return sites, parameters_of(model, used), layouts, following(sites)


def on_meta(model: nn.Module) -> nn.Module:
    """A copy without values, in which shared parameters are still shared."""
    model = copy.deepcopy(model)
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, p in module._parameters.items():
            if p is not None:
                made.setdefault(id(p), nn.Parameter(p.to("meta"), requires_grad=p.requires_grad))
                module._parameters[name] = made[id(p)]
        for name, b in module._buffers.items():
            module._buffers[name] = None if b is None else b.to("meta")
    return model


def without_values(batch: Batch) -> Batch:
    args, kwargs, targets = tree_map_only(
        Tensor, lambda t: t.to("meta"), (batch.args, dict(batch.kwargs), batch.targets)
    )
    return Batch(args, kwargs, targets)


@pytest.mark.filterwarnings("ignore")  # the patients' own
@pytest.mark.parametrize("name", sorted({**HEALTHY, **ODD}.keys() - ELSEWHERE.keys()))
def test_without_values_everything_is_the_same(name: str) -> None:
    patient = {**HEALTHY, **ODD}[name]()
    batch = as_batch(patient.batch)
    found = described(on_meta(patient.model), without_values(batch))
    assert found == described(patient.model, batch)
    assert found[0]


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", ["gpt2", "resnet18", "gru_bidirectional", "tied_weights", "bert"])
def test_the_probe_measures_these_sites(name: str) -> None:
    patient = {**HEALTHY, **ODD}[name]()
    record = measure(patient.model, patient.batch, patient.loss)
    sites, parameters, _, _ = described(patient.model, as_batch(patient.batch))
    assert list(record.sites) == sites
    assert list(record.parameters) == parameters


def test_every_site_is_read_once_and_in_order() -> None:
    class Block(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.stem, self.fc, self.norm = nn.Linear(7, 5), nn.Linear(5, 5), nn.LayerNorm(5)

        def forward(self, x: Tensor) -> Tensor:
            x = self.stem(x)
            x += torch.relu(self.fc(1 * x))
            return self.norm(x)

    model = Block()
    listener, tape = listened(model, as_batch(torch.ones(3, 7)))
    assert [row.name for row, _, _ in listener.seen] == [
        "stem",
        "fc",
        "forward:relu",
        "forward:add",
        "norm",
    ]
    assert [row for row, _, _ in listener.seen] == listener.rows
    assert [shape for _, shape, _ in listener.seen] == [row.node.shape for row in listener.rows]
    frames = [None if frame is None else frame.module for _, _, frame in listener.seen]
    assert frames == [model.stem, model.fc, None, None, model.norm]
    ((skip, branch),) = listener.additions  # before += overwrote the skip
    assert (tape.nodes[skip].module, tape.nodes[branch].op) == ("stem", "relu")


def test_an_addition_is_judged_by_itself() -> None:
    """The second closes no skip, the third is part of the loss."""

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc = nn.Linear(7, 7)

        def forward(self, x: Tensor) -> Tensor:
            return x + self.fc(x) + 1.0

    x = torch.ones(3, 7)
    listener = Silent()
    tape = Tape(Model(), listener)
    with tape.recording():
        tape.take(as_batch(x))
        out = tape.model(x)
        tape.phase = "loss"
        out + x
    assert [row.name for row in listener.rows] == ["fc", "forward:add"]
    assert len(listener.additions) == 1
