"""predict(): what goes in and comes out; the model is left as found; cost and depth."""

import math
import random
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import isograd
from isograd.diagnosis import diagnose
from isograd.errors import DataError, InputError, LossError, ModelError, PredictionError

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


# -- what cannot be predicted ---------------------------------------------------------------------


def forward(function: Callable[[Tensor], Any]) -> Callable[[], nn.Module]:
    class Inner(nn.Module):
        def forward(self, x: Tensor) -> Any:
            return function(x)

    return lambda: nn.Sequential(nn.Linear(IN, 8), Inner())


def branch(x: Tensor) -> Tensor:
    return x if x.sum() > 0 else -x


def loop(x: Tensor) -> Tensor:
    for _ in range(int(x.abs().max())):
        x = x * 2
    return x


@pytest.mark.parametrize(
    ("function", "said"),
    [
        (branch, r"__bool__\(\) in '1' needs a value that is never computed"),
        (loop, r"__int__\(\) in '1' needs a value"),
        (lambda x: x * x.max().item(), r"item\(\) in '1' needs a value"),
        (lambda x: torch.from_numpy(x.numpy()), r"numpy\(\) in '1' needs a value"),
        (lambda x: torch.tensor(x.tolist()), r"tolist\(\) in '1' needs a value"),
        (lambda x: x.nonzero().float(), r"nonzero\(\) in '1' needs a value"),
        (lambda x: x[x > 0], r"in '1' "),
        (lambda x: x.masked_select(x > 0), r"masked_select in '1' takes as many entries as the"),
        (lambda x: x.gather(1, x.topk(3).indices), r"gather in '1' uses whole numbers that are"),
        (lambda x: (x.topk(2).indices == 0) * x[:, :2], r"eq in '1' uses whole .*mixtures of exp"),
    ],
)
def test_what_depends_on_values_says_where_and_what_to_do(
    function: Callable[[Tensor], Any], said: str
) -> None:
    with pytest.raises(PredictionError, match=said) as caught:
        isograd.predict(forward(function), TEXT)
    assert "isograd.measure on one batch" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_factory_that_reads_a_file_says_so() -> None:
    said = r"building the model raised FileNotFoundError: .*no.pt.* in test_predict.py, line \d+"
    with pytest.raises(PredictionError, match=said) as caught:
        isograd.predict(lambda: torch.load("no.pt"), TEXT)
    assert "build the real model first and predict from that, or measure it" in str(caught.value)
    assert "\n" not in str(caught.value)


MISFITS: list[tuple[Callable[[Tensor], Any], str]] = [
    (lambda x: x + x[:, :3], r"add of 13×8 by 13×3 in '1' would fail"),
    (lambda x: x @ x, r"matmul of 13×8 by 13×8 in '1' would fail"),
    (lambda x: x.view(7, -1), r"view of 13×8 in '1' would fail"),
    (lambda x: x[:, 9], r"getitem of 13×8 in '1' would fail: index 9 is out of bounds"),
    (lambda x: x.mean(4), r"mean of 13×8 in '1' would fail: Dimension out of range"),
    (lambda x: torch.cat([x, x[:2]], 1), r"cat in '1' would fail: Sizes of tensors must match"),
    (lambda x: nn.functional.layer_norm(x, (7,)), r"layer_norm of 13×8 in '1' would fail"),
]


@pytest.mark.parametrize(("function", "said"), MISFITS)
def test_shapes_that_do_not_fit_say_which(function: Callable[[Tensor], Any], said: str) -> None:
    with pytest.raises(ModelError, match=said) as caught:
        isograd.predict(forward(function), TEXT)
    assert "give inputs of the shapes and ids that the model takes" in str(caught.value)
    with pytest.raises((RuntimeError, IndexError)):  # so does the real model
        forward(function)()(torch.randn(SAMPLES, IN))


@pytest.mark.parametrize("layer", [lambda: nn.Linear(IN, 3), lambda: nn.Conv1d(4, 3, 2)])
def test_whole_numbers_are_no_input_of_a_layer(layer: Callable[[], nn.Module]) -> None:
    text = f"int64[{SAMPLES},4,{IN}]<9"
    with pytest.raises(ModelError, match="fail: the input is int64, the weight float32; give"):
        isograd.predict(layer, text)


def test_a_length_of_one_is_no_length_of_any() -> None:
    with pytest.raises(ModelError, match="linear of 13×1 by 37×11 in 'stem' would fail"):
        isograd.predict(Net, f"float32[{SAMPLES},1]")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("32,3", "expected a type and a shape such as"),
        ("float31[2]", "types: float32"),
        ("int64[2,3]", "whole numbers need a bound of 1 or more: int64\\[2,3\\]<1000"),
        ("int64[2,3]<0", "whole numbers need a bound of 1 or more"),
        ("float32[2]<3", "a bound is for whole numbers"),
        ("float32[0,3]", "an axis of length 0"),
        ("float32[99999999999999999999,64]", "no tensor has"),
        ("float32[2,3] -> y=int64[2]<3", "targets have no name; write -> int64"),
        ("float32[2,3] -> x", "expected a type and a shape"),
    ],
)
def test_text_that_names_no_input(text: str, said: str) -> None:
    with pytest.raises(DataError, match=said):
        isograd.predict(Net, text)


class OfDict(nn.Linear):
    def forward(self, inputs: dict[str, Tensor]) -> Tensor:  # type: ignore[override]
        return super().forward(inputs["x"])


X = torch.randn(SAMPLES, IN)


@pytest.mark.parametrize(
    ("model", "batch", "error", "said"),
    [
        (Net, (X[:0], X[:0]), DataError, r"input 0 is float32\[0, 11\], which holds no entries"),
        (Net, X / 0, DataError, "input 0 holds 143 NaN or infinite values"),
        (OfDict(IN, 3), ({"x": X}, None), ModelError, r"takes the dict itself, give \(\(\{"),
        (lambda: nn.LazyLinear(3), X, PredictionError, "a LazyLinear takes its shape from"),
        (lambda: nn.Embedding(9, 3), X, PredictionError, r"give ids, such as int64\[32,128\]<"),
    ],
)
@pytest.mark.filterwarnings("ignore:Lazy modules")
def test_what_cannot_be_predicted_says_why(
    model: Any, batch: Any, error: type[Exception], said: str
) -> None:
    with pytest.raises(error, match=said) as caught:
        isograd.predict(model, batch)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit")
def test_what_torch_jit_has_compiled_cannot_be_predicted() -> None:
    with pytest.raises(PredictionError, match="is compiled by torch"):
        isograd.predict(torch.jit.script(nn.Linear(IN, 3)), X)


def test_a_dict_may_be_wrapped() -> None:
    assert isograd.predict(OfDict(IN, 3), (({"x": X},), None)).sites


@pytest.mark.parametrize("seed", [-1, "a", 0.5])
def test_seeds_are_whole_numbers(seed: Any) -> None:
    with pytest.raises(InputError, match=f"seed={seed!r}; it must be a whole number"):
        isograd.predict(Net, TEXT, seed=seed)


def test_other_things_than_models() -> None:
    with pytest.raises(ModelError, match=r"expected a torch\.nn\.Module or a callable .* int"):
        isograd.predict(3, TEXT)  # type: ignore[arg-type]
    with pytest.raises(ModelError, match="the factory returned a int"):
        isograd.predict(lambda: 3, TEXT)  # type: ignore[arg-type, return-value]
    with pytest.raises(LossError, match="none fits output"):
        isograd.predict(Net, (torch.randn(SAMPLES, IN), torch.randn(SAMPLES + 1, OUT)))


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
