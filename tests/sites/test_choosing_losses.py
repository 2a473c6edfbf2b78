"""The loss that is chosen is torch's own on the right arguments."""

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from isograd.errors import LossError
from isograd.sites.losses import are_binary, as_scalar, choose, describe, form_of

GENERATOR = torch.Generator().manual_seed(7)


def normal(*shape: int) -> Tensor:
    return torch.randn(shape, generator=GENERATOR)


def whole(high: int, *shape: int) -> Tensor:
    return torch.randint(high, shape, generator=GENERATOR)


LABELS, TOKENS, BITS = whole(5, 11), whole(5, 11, 3), whole(2, 11)
BITS[:2] = torch.tensor([0, 1])
LOGITS, SEQUENCE = normal(11, 5), normal(11, 3, 5)


@pytest.mark.parametrize(
    ("out", "targets", "name", "expected"),
    [
        (LOGITS, LABELS, "cross_entropy", F.cross_entropy(LOGITS, LABELS)),
        (LOGITS, LABELS.int(), "cross_entropy", F.cross_entropy(LOGITS, LABELS)),
        (LOGITS.softmax(1), LABELS, "nll_loss of the log", F.cross_entropy(LOGITS, LABELS)),
        (LOGITS.log_softmax(1), LABELS, "nll_loss", F.cross_entropy(LOGITS, LABELS)),
        (
            SEQUENCE,
            TOKENS,
            "cross_entropy",
            F.cross_entropy(SEQUENCE.reshape(33, 5), TOKENS.reshape(33)),
        ),
        (
            SEQUENCE.transpose(1, 2),
            TOKENS,
            "cross_entropy",
            F.cross_entropy(SEQUENCE.transpose(1, 2), TOKENS),
        ),
        (
            SEQUENCE.softmax(2),
            TOKENS,
            "nll_loss of the log",
            F.cross_entropy(SEQUENCE.reshape(33, 5), TOKENS.reshape(33)),
        ),
        (
            SEQUENCE.log_softmax(2),
            TOKENS,
            "nll_loss",
            F.cross_entropy(SEQUENCE.reshape(33, 5), TOKENS.reshape(33)),
        ),
        (
            SEQUENCE.transpose(1, 2).softmax(1),
            TOKENS,
            "nll_loss of the log",
            F.cross_entropy(SEQUENCE.transpose(1, 2), TOKENS),
        ),
    ],
)
def test_classes(out: Tensor, targets: Tensor, name: str, expected: Tensor) -> None:
    chosen = choose(out, targets, None, 0)
    assert chosen.name == name
    torch.testing.assert_close(chosen.compute(), expected)
    assert chosen.note is not None
    assert f"{name}, chosen for output {describe(out)}" in chosen.note


@pytest.mark.parametrize("dtype", [torch.float32, torch.int64, torch.bool])
@pytest.mark.parametrize("shape", [(11,), (11, 1)])
@pytest.mark.parametrize("target_shape", [(11,), (11, 1)])
def test_two_classes(dtype: torch.dtype, shape: Any, target_shape: Any) -> None:
    out, targets = LOGITS[:, 0].reshape(shape), BITS.reshape(target_shape).to(dtype)
    expected = F.binary_cross_entropy_with_logits(LOGITS[:, 0], BITS.float())
    chosen = choose(out, targets, None, 0)
    assert chosen.name == "binary_cross_entropy_with_logits"
    torch.testing.assert_close(chosen.compute(), expected)
    chosen = choose(out.sigmoid(), targets, None, 0)
    assert chosen.name == "binary_cross_entropy"
    torch.testing.assert_close(chosen.compute(), expected)


def test_outputs_above_one_are_logits() -> None:
    out = LOGITS[:, 0].abs() + 0.7
    assert choose(out, BITS.float(), None, 0).name == "binary_cross_entropy_with_logits"


def test_several_labels_at_once() -> None:
    targets = (LOGITS > 0.3).float()
    chosen = choose(LOGITS, targets, None, 0)
    assert chosen.name == "binary_cross_entropy_with_logits"
    expected = F.binary_cross_entropy_with_logits(LOGITS, targets)
    torch.testing.assert_close(chosen.compute(), expected)


@pytest.mark.parametrize("shapes", [((11,), (11, 1)), ((11, 1), (11,)), ((11, 3), (11, 3))])
def test_regression_does_not_stretch(shapes: Any) -> None:
    out, targets = normal(*shapes[0]), normal(*shapes[1]).double()
    chosen = choose(out, targets, None, 0)
    assert chosen.name == "mse_loss"
    expected = (out.flatten().double() - targets.flatten()).square().mean()
    torch.testing.assert_close(chosen.compute().double(), expected, rtol=1e-6, atol=0)


def test_targets_that_are_all_zero_are_numbers() -> None:
    assert choose(normal(11, 1), torch.zeros(11), None, 0).name == "mse_loss"


@pytest.mark.parametrize(
    ("out", "targets"),
    [
        (normal(11, 5), normal(11, 3)),  # other widths
        (normal(11, 5), normal(7, 5)),  # other batch
        (normal(5, 11), normal(11, 5)),  # same number, other batch
        (normal(11, 5), whole(9, 11, 5) + 2),  # counts: no loss is plain
        (normal(11, 5), LABELS.to(torch.complex64)),
    ],
)
def test_what_no_loss_fits_is_told(out: Tensor, targets: Tensor) -> None:
    pattern = r"^loss: none fits output float32.*targets .*; pass loss="
    with pytest.raises(LossError, match=pattern) as caught:
        choose(out, targets, None, 0)
    assert "\n" not in str(caught.value)


def test_the_one_handed_in_goes_first() -> None:
    own = {"loss": torch.tensor(3.0), "logits": LOGITS}
    chosen = choose(own, LABELS, lambda o, t: F.nll_loss(o["logits"], t) * 7, 0)
    assert chosen.name == "<lambda>"
    assert chosen.note is None
    torch.testing.assert_close(chosen.compute(), 7 * F.nll_loss(LOGITS, LABELS))
    assert choose(LOGITS, LABELS, torch.nn.L1Loss(), 0).name == "L1Loss"


@pytest.mark.parametrize("wrap", [dict, lambda **kw: SimpleNamespace(**kw)])
def test_the_outputs_own(wrap: Callable[..., Any]) -> None:
    own = torch.tensor(3.0)
    chosen = choose(wrap(loss=own, logits=LOGITS), LABELS, None, 0)
    assert chosen.name == "the model's own"
    assert chosen.compute() is own
    # A field that is there but empty is no loss.
    left = choose({"loss": None, "logits": LOGITS}, LABELS, None, 0)
    assert left.name == "cross_entropy"


def test_one_number_is_the_loss_if_it_has_a_graph() -> None:
    value = torch.tensor(2.0, requires_grad=True)
    assert choose(value, LABELS, None, 0).name == "the model's own"
    assert choose(value.detach(), None, None, 0).name == "random probes"


@pytest.mark.parametrize(
    ("outputs", "targets", "found"),
    [
        ("words", None, "returned a str without a floating-point"),
        ((LABELS, None), LABELS, "returned a tuple without"),
        (LOGITS, [1, 2], "targets are a list"),
        (LOGITS, {"boxes": LABELS}, "targets are a dict"),
    ],
)
def test_errors_of_choosing(outputs: Any, targets: Any, found: str) -> None:
    with pytest.raises(LossError, match=f"^loss: .*{found}.*pass loss="):
        choose(outputs, targets, None, 0)


def test_random_probes_are_products_with_unit_vectors() -> None:
    outputs = (LOGITS.clone().requires_grad_(), SEQUENCE.clone().requires_grad_())
    chosen = choose(outputs, None, None, 3)
    assert chosen.name == "random probes"
    assert chosen.note is not None
    value = chosen.compute()
    vectors = torch.autograd.grad(value, outputs)
    # The products, by hand.
    by_hand = sum((v * o).sum() for v, o in zip(vectors, outputs, strict=True))
    torch.testing.assert_close(value, by_hand)
    for vector in vectors:  # 11 samples, each of expected square 1; variance 2 / entries each
        entries = vector[0].numel()
        squares = vector.flatten(1).square().sum(1)
        assert abs(float(squares.mean()) - 1) < 4 * math.sqrt(2 / entries / 11)
    again = torch.autograd.grad(choose(outputs, None, None, 3).compute(), outputs)
    other = torch.autograd.grad(choose(outputs, None, None, 4).compute(), outputs)
    assert torch.equal(vectors[0], again[0])
    assert not torch.equal(vectors[0], other[0])


def test_random_probes_of_odd_outputs() -> None:
    wave = torch.view_as_complex(normal(11, 3, 2)).requires_grad_()
    value = choose(wave, None, None, 0).compute()
    assert not value.is_complex()
    (vector,) = torch.autograd.grad(value, wave)
    squares = torch.view_as_real(vector).flatten(1).square().sum(1)
    assert abs(float(squares.mean()) - 1) < 4 * math.sqrt(2 / 6 / 11)
    assert float(choose(torch.ones(0, 5), None, None, 0).compute()) == 0
    both = (torch.ones(0, 5), torch.ones(2, 3, requires_grad=True))
    assert choose(both, None, None, 0).compute().requires_grad


@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_one_real_number_is_a_loss(shape: tuple[int, ...]) -> None:
    assert as_scalar(torch.full(shape, 2.5), "f").shape == ()
    assert float(as_scalar(torch.full(shape, 2.5), "f")) == 2.5


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (2.5, "f returned a float"),
        (None, "f returned a NoneType"),
        (torch.ones(3), r"f returned float32\[3\].*reduction='mean'"),
        (torch.ones(()).long(), r"f returned int64\[\]"),
        (torch.ones((), dtype=torch.complex64), "f returned complex64"),
        (torch.ones(0), r"f returned float32\[0\]"),
    ],
)
def test_what_is_no_loss(value: Any, found: str) -> None:
    with pytest.raises(LossError, match=f"^loss: {found}"):
        as_scalar(value, "f")


def test_without_values_somebody_else_tells_what_they_are() -> None:
    """The choice for tensors on the meta device is that for the live ones they stand for."""

    def on_meta(out: Tensor, targets: Tensor, form: Any, is_binary: bool = False) -> Any:
        return choose(
            out.to("meta"),
            targets.to("meta"),
            None,
            0,
            form=lambda _, axis: form if axis == expected_axis else "logits",
            binary=lambda _: is_binary,
        )

    for out, expected_axis in ((LOGITS, 1), (SEQUENCE, -1), (SEQUENCE.transpose(1, 2), 1)):
        targets = LABELS if out is LOGITS else TOKENS
        for live, form in (
            (out, "logits"),
            (out.softmax(expected_axis), "probabilities"),
            (out.log_softmax(expected_axis), "log probabilities"),
        ):
            assert form_of(live, expected_axis) == form
            chosen, meant = on_meta(out, targets, form), choose(live, targets, None, 0)
            assert (chosen.name, chosen.note) == (meant.name, meant.note)
            assert chosen.compute().is_meta
    expected_axis = None
    for live, form in ((LOGITS, "logits"), (LOGITS.sigmoid(), "probabilities")):
        for targets in ((LOGITS > 0.3).float(), LOGITS + 1):
            chosen = on_meta(live, targets, form, are_binary(targets))
            assert chosen.name == choose(live, targets, None, 0).name
            assert chosen.compute().shape == ()


def test_random_probes_need_no_values() -> None:
    out = LOGITS.to("meta").requires_grad_()
    (vector,) = torch.autograd.grad(choose(out, None, None, 0).compute(), out)
    assert vector.shape == LOGITS.shape
