"""predict(): what goes in and comes out; the model is left as found; cost and depth."""

import math
import random
import sys
import time
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isograd
from isograd.diagnosis import diagnose
from isograd.errors import DataError, ModelError

IN, WIDTH, OUT, SAMPLES = 11, 37, 5, 13


class Block(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(width)
        self.fc = nn.Linear(width, width)
        self.drop = nn.Dropout(0.3)

    def forward(self, x: Tensor) -> Tensor:
        kept: Tensor = x + self.drop(torch.relu(self.fc(self.norm(x))))
        return kept


class Net(nn.Module):
    def __init__(self, depth: int = 3, width: int = WIDTH) -> None:
        super().__init__()
        self.stem = nn.Linear(IN, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.head = nn.Linear(width, OUT)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.head(self.blocks(self.stem(x)))
        return out


TEXT = f"float32[{SAMPLES},{IN}]"


def column(record: isograd.Record, key: str) -> dict[str, float | None]:
    return {site.name: record.value(key, i) for i, site in enumerate(record.sites)}


# -- what comes out -------------------------------------------------------------------------------


def test_a_record_with_the_sites_of_a_measurement() -> None:
    predicted = isograd.predict(Net, TEXT)
    measured = isograd.measure(Net(), torch.randn(SAMPLES, IN))
    assert predicted.source == "predicted"
    assert [(s.name, s.kind, s.depth, s.shape, s.inputs) for s in predicted.sites] == [
        (s.name, s.kind, s.depth, s.shape, s.inputs) for s in measured.sites
    ]
    assert predicted.parameters == measured.parameters


def test_it_is_what_a_wide_network_measures() -> None:
    torch.manual_seed(0)
    x = torch.randn(256, IN)
    predicted = isograd.predict(lambda: Net(width=1024), x)
    measured = isograd.measure(Net(width=1024), x)
    for way in ("forward", "backward"):
        there, bands = column(measured, f"{way}.rms"), column(predicted, f"{way}.band")
        for name, number in column(predicted, f"{way}.rms").items():
            # one draw lies within four standard deviations
            off = math.log((number or 0.0) / (there[name] or 0.0))
            assert abs(off) < 4 * (bands[name] or 0.0), (way, name)
    spread = column(measured, "forward.spread")["blocks.2:add"]
    assert column(predicted, "forward.spread")["blocks.2:add"] == pytest.approx(spread, rel=0.05)


def test_numbers_that_rules_read_are_there() -> None:
    record = isograd.predict(Net, (torch.randn(SAMPLES, IN), torch.randint(OUT, (SAMPLES,))))
    for key in ("forward.count", "backward.count", "forward.band", "weight.row_spread"):
        assert record.has(key)
    states = {verdict.code: verdict.state for verdict in diagnose(record).verdicts}
    assert "failed" not in states.values()
    for code in ("IG101", "IG102", "IG201", "IG202", "IG301", "IG603"):
        assert states[code] == "passed", code


def test_a_band_can_be_left_out() -> None:
    record = isograd.predict(Net, TEXT, width_band=False)
    assert not record.has("forward.band")
    assert not record.has("backward.band")


def test_a_sick_network_is_told_before_it_exists() -> None:
    def sigmoid() -> nn.Module:
        layers = [layer for _ in range(20) for layer in (nn.Linear(WIDTH, WIDTH), nn.Sigmoid())]
        return nn.Sequential(*layers, nn.Linear(WIDTH, OUT))

    found = diagnose(isograd.predict(sigmoid, f"float32[{SAMPLES},{WIDTH}]"))
    assert not found.healthy
    assert found.findings[0].cause == "saturating-activation"


# -- what goes in ---------------------------------------------------------------------------------


def test_a_model_from_recording_predicts_as_its_factory() -> None:
    with isograd.recording():
        model = Net()
    assert all(parameter.is_meta for parameter in model.parameters())
    first, second = isograd.predict(model, TEXT), isograd.predict(Net, TEXT)
    assert first.series == second.series


def test_a_real_model_counts_with_its_own_weights() -> None:
    model = Net()
    nn.init.normal_(model.stem.weight, std=0.5)
    nn.init.zeros_(model.stem.bias)
    rms = column(isograd.predict(model, TEXT), "forward.rms")["stem"]
    std = float(model.stem.weight.detach().square().mean().sqrt())
    assert rms == pytest.approx(std * math.sqrt(IN), rel=1e-6)


@pytest.mark.parametrize(
    "inputs", [TEXT, torch.randn(SAMPLES, IN), {"x": torch.randn(SAMPLES, IN)}, f"x={TEXT}"]
)
def test_inputs_as_text_tensor_and_keywords(inputs: Any) -> None:
    record = isograd.predict(Net, inputs)
    assert record.sites[0].shape == (SAMPLES, WIDTH)


def test_ids_and_targets_as_text() -> None:
    class Words(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.table, self.head = nn.Embedding(41, WIDTH), nn.Linear(WIDTH, OUT)

        def forward(self, ids: Tensor) -> Tensor:
            out: Tensor = self.head(self.table(ids).mean(1))
            return out

    record = isograd.predict(Words, f"ids=int64[{SAMPLES},7]<41 -> int64[{SAMPLES}]<{OUT}")
    assert record.fact("loss.name") == "cross_entropy"
    assert record.fact("loss.chance") == pytest.approx(math.log(OUT))
    assert record.fact("loss.value") == pytest.approx(math.log(OUT), rel=0.1)
    with pytest.raises(ModelError, match=r"embedding .* ids from \d+ to 9\d, .* 41 rows"):
        isograd.predict(Words, f"int64[{SAMPLES},31]<100")


def test_statistics_of_the_inputs() -> None:
    quiet = isograd.predict(Net, TEXT, input_stats={"std": 1e-3})
    loud = isograd.predict(Net, TEXT, input_stats={"std": 3.0, "mean": 1.0, "correlation": 0.7})
    assert column(quiet, "forward.rms")["stem"] < column(loud, "forward.rms")["stem"]  # type: ignore[operator]
    assert column(loud, "forward.correlation")["stem"] == pytest.approx(0.7, abs=0.05)
    with pytest.raises(DataError, match="input_stats has sdt; it takes mean, std, correlation"):
        isograd.predict(Net, TEXT, input_stats={"sdt": 1.0})
    with pytest.raises(DataError, match="correlation from -1 to 1"):
        isograd.predict(Net, TEXT, input_stats={"correlation": 2.0})


def test_a_batch_made_with_its_model_counts_as_it_was_drawn() -> None:
    with isograd.recording():
        model, batch = nn.Linear(IN, OUT), 5 * torch.rand(SAMPLES, IN) + 1  # mean 3.5
        nn.init.normal_(model.weight, std=0.5)
        nn.init.zeros_(model.bias)
    energy = 3.5**2 + 25 / 12
    rms = isograd.predict(model, batch).value("forward.rms", 0)
    assert rms == pytest.approx(0.5 * math.sqrt(IN * energy), rel=1e-6)
    given = isograd.predict(model, batch, input_stats={"mean": 0.0})
    assert given.value("forward.rms", 0) == pytest.approx(0.5 * math.sqrt(IN * 25 / 12), rel=1e-6)


def test_a_loss_of_ones_own() -> None:
    def double(outputs: Tensor, targets: Tensor) -> Tensor:
        return 2 * nn.functional.mse_loss(outputs, targets)

    batch = (torch.randn(SAMPLES, IN), torch.randn(SAMPLES, OUT))
    single = isograd.predict(Net, batch)
    twice = isograd.predict(Net, batch, loss=double)
    assert single.fact("loss.chosen") is True
    assert twice.fact("loss.chosen") is False
    assert twice.fact("loss.name") == "double"
    for name, number in column(single, "backward.rms").items():
        assert column(twice, "backward.rms")[name] == pytest.approx(2 * number)  # type: ignore[operator]
    assert twice.fact("loss.value") == pytest.approx(2 * single.fact("loss.value"))


# -- the model is left as found -------------------------------------------------------------------


def everything(model: nn.Module) -> list[Any]:
    state = [(name, tensor.clone()) for name, tensor in model.state_dict().items()]
    hooks = [
        (len(m._forward_hooks), len(m._forward_pre_hooks), len(m._backward_hooks), m.training)
        for m in model.modules()
    ]
    objects = [id(t) for t in (*model.parameters(), *model.buffers())]
    grads = [p.grad for p in model.parameters()]
    return [state, hooks, objects, grads, torch.get_rng_state(), random.getstate()]


def same(first: Any, second: Any) -> bool:
    if isinstance(first, Tensor):
        return torch.equal(first, second)
    if isinstance(first, (list, tuple)):
        return len(first) == len(second) and all(map(same, first, second))
    return bool(first == second)


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("fails", [False, True])
def test_a_real_model_is_left_as_found(training: bool, fails: bool) -> None:
    model = Net().train(training)
    before = everything(model)
    if fails:
        with pytest.raises(ModelError, match="linear of 13×12 by 37×11 in 'stem' would fail"):
            isograd.predict(model, f"float32[{SAMPLES},{IN + 1}]")
    else:
        isograd.predict(model, torch.randn(SAMPLES, IN, generator=torch.Generator()))
    assert same(before, everything(model))
    assert torch.is_grad_enabled()
    assert not model(torch.randn(SAMPLES, IN)).is_meta


def test_the_model_still_trains() -> None:
    torch.manual_seed(0)
    model = Net()
    isograd.predict(model, TEXT)
    model(torch.randn(SAMPLES, IN)).sum().backward()
    assert all(p.grad is not None for p in model.parameters())


# -- what it costs --------------------------------------------------------------------------------


def stack(depth: int, width: int) -> nn.Module:
    layers = [layer for _ in range(depth) for layer in (nn.Linear(width, width), nn.Tanh())]
    return nn.Sequential(*layers)


def seconds(depth: int, width: int) -> float:
    began = time.process_time()
    isograd.predict(lambda: stack(depth, width), f"float32[4,{width}]")
    return time.process_time() - began


def test_nothing_depends_on_the_width() -> None:
    seconds(20, 10)
    narrow = min(seconds(20, 10) for _ in range(3))
    wide = min(seconds(20, 10**6) for _ in range(3))  # 20 times 4 TB of weights
    assert wide < 2 * narrow


def test_depth_costs_no_more_than_its_layers_and_needs_no_recursion() -> None:
    limit = sys.getrecursionlimit()
    seconds(10, 10)
    sys.setrecursionlimit(400)
    try:
        shallow, deep = seconds(250, 10), seconds(1000, 10)
    finally:
        sys.setrecursionlimit(limit)
    assert deep < 8 * shallow


@pytest.mark.slow
def test_ten_thousand_layers() -> None:
    record = isograd.predict(lambda: stack(10_000, 10), "float32[4,10]")
    assert record.sites[-1].depth == 10_000
    assert record.value("forward.rms", len(record.sites) - 1) is not None
    assert math.isfinite(record.value("backward.rms", 0) or 0.0)


class Keeping(nn.Module):
    """Puts what it computes into containers of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(IN, IN)
        self.seen: list[Any] = []
        self.cache: dict[str, Any] = {"inner": []}

    def forward(self, x: Tensor) -> Tensor:
        x.requires_grad = True  # as transformers' speech models do
        out: Tensor = self.layer(x)
        self.seen.append(out)
        self.cache["out"] = out
        self.cache["inner"].append(out)
        return out


def test_containers_of_a_model_are_left_as_found() -> None:
    model = Keeping()
    isograd.predict(model, torch.randn(SAMPLES, IN))
    assert model.seen == []
    assert model.cache == {"inner": []}
