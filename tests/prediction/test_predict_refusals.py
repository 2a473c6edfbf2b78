"""What predict() refuses: it says in a line where, what was found, and what to do."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from test_predict import IN, OUT, SAMPLES, TEXT, Net
from torch import Tensor, nn

import isograd
from isograd.errors import DataError, InputError, LossError, ModelError, PredictionError
from isograd.prediction.ops.elementwise import Elementwise


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
    said = r"the model raised FileNotFoundError: .*no.pt.* in test_predict_refusals.py, line \d+"
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


class Idle(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return x


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
        (nn.Sequential, X, ModelError, "no site in the forward of a Sequential of 0 parameters: "),
        (lambda: Idle(IN, 3), X, ModelError, "of a Idle of 2 parameters: .*; give a model whose"),
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


def test_an_error_of_a_rule_is_told_as_isograds(monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: Any, **__: Any) -> None:
        raise OverflowError("too large")

    monkeypatch.setattr(Elementwise, "apply", fails)
    with pytest.raises(PredictionError, match="isograd's own rule for tanh in '1' raised"):
        isograd.predict(nn.Sequential(nn.Linear(8, 8), nn.Tanh()), torch.randn(4, 8))


def test_an_exponential_of_large_sums_is_not_the_networks_fault() -> None:
    class Decay(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.first, self.last = nn.Linear(64, 64), nn.Linear(64, 4)

        def forward(self, x: Tensor) -> Tensor:
            out: Tensor = self.last(torch.exp(self.scale * self.first(x)))
            return out

        scale = 8.0

    model = Decay()
    notes = isograd.predict(model, torch.randn(16, 64)).notes
    assert any("no draw meets" in note for note in notes)
    assert any("itself may be steady" in note for note in notes)
    model.scale = 1.0
    assert not any("no draw meets" in n for n in isograd.predict(model, torch.randn(16, 64)).notes)


@pytest.mark.parametrize("loss", ["cross_entropy", "nll_loss"])
def test_targets_that_are_no_class_are_the_users(loss: str) -> None:
    function = getattr(nn.functional, loss)
    model = lambda: nn.Sequential(nn.Linear(6, 10), nn.LogSoftmax(1))  # noqa: E731
    targets = torch.tensor([3, 19, 0, -100])
    said = rf"{loss} .* would fail: targets from 0 to 19, where there are 10 classes, from 0; give"
    with pytest.raises(ModelError, match=said):
        isograd.predict(model, (torch.randn(4, 6), targets), loss=function)
    isograd.predict(model, (torch.randn(4, 6), targets.clamp(max=9)), loss=function)
