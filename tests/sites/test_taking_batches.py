"""A batch is taken apart the way the model is called with it."""

from collections import UserDict, namedtuple
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isograd.errors import DataError
from isograd.sites.batches import Batch, as_batch, is_signal, tensors

X, Z, Y = torch.randn(5, 7), torch.randn(5, 3), torch.arange(5)
Pair = namedtuple("Pair", "inputs targets")  # what data sets return


@pytest.mark.parametrize(
    ("batch", "args", "kwargs", "targets"),
    [
        (X, (X,), {}, None),
        ((X,), (X,), {}, None),
        ([X, Y], (X,), {}, Y),
        (Pair(X, Y), (X,), {}, Y),
        ((X, None), (X,), {}, None),
        (((X, Z), Y), (X, Z), {}, Y),
        (({"a": X, "b": Z}, Y), (), {"a": X, "b": Z}, Y),
        ({"a": X, "labels": Y}, (), {"a": X, "labels": Y}, Y),
        (UserDict({"a": X, "y": Y}), (), {"a": X, "y": Y}, Y),
        ({"a": X}, (), {"a": X}, None),
    ],
)
def test_the_forms_of_a_batch(batch: Any, args: Any, kwargs: Any, targets: Any) -> None:
    taken = as_batch(batch)
    assert len(taken.args) == len(args)
    assert all(a is b for a, b in zip(taken.args, args, strict=True))
    assert dict(taken.kwargs) == kwargs
    assert taken.targets is targets
    assert taken.size == 5


def test_labels_are_looked_for_in_order() -> None:
    assert as_batch({"y": Z, "labels": Y, "x": X}).targets is Y


@pytest.mark.parametrize(
    ("batch", "found"),
    [
        ("words", "found a str"),
        (3, "found an int"),
        (np.zeros((5, 7)), "found a ndarray"),
        ((X, Z, Y), r"found a tuple of 3.*\(\(a, b\), targets\)"),
        ([], "found a list of 0"),
        ((np.zeros((5, 7)), Y), "inputs are a ndarray.*as_tensor"),
        (("words", Y), "inputs are a str"),
    ],
)
def test_what_is_no_batch_is_told(batch: Any, found: str) -> None:
    with pytest.raises(DataError, match=found) as caught:
        as_batch(batch)
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("batch: ")


def test_the_model_is_called_as_the_batch_says() -> None:
    class Both(nn.Module):
        def forward(self, *args: Any, **kwargs: Any) -> Any:
            return args, kwargs

    args, kwargs = as_batch((((X, Z)), Y)).call(Both())
    assert args == (X, Z)
    assert kwargs == {}
    args, kwargs = as_batch({"a": X, "labels": Y}).call(Both())
    assert args == ()
    assert set(kwargs) == {"a", "labels"}


def test_inputs_leave_the_labels_out_and_go_inside() -> None:
    batch = as_batch({"a": X, "label": Y, "more": {"b": [Z]}})
    assert [id(t) for t in batch.inputs()] == [id(X), id(Z)]


@pytest.mark.parametrize(
    ("args", "size"),
    [((), 1), ((torch.tensor(2.0),), 1), ((torch.ones(0, 4),), 0), ((Z[:2], X), 2)],
)
def test_the_size_is_that_of_the_first_input(args: tuple[Tensor, ...], size: int) -> None:
    assert Batch(args, {}).size == size


def test_tensors_are_found_in_order_and_not_without_end() -> None:
    @dataclass
    class Output:
        logits: Tensor
        rest: Any = None

    a, b, c, d = (torch.ones(k) for k in (1, 2, 3, 5))
    found = tensors([a, {"k": (b, None, "word")}, Output(c, [d])])
    assert [t.numel() for t in found] == [1, 2, 3, 5]
    assert list(tensors(Output)) == []  # the class is no instance
    assert list(tensors([[[[a]]]])) == [a]
    assert list(tensors([[[[[a]]]]])) == []


@pytest.mark.parametrize(
    ("tensor", "signal"),
    [
        (torch.ones(2), True),
        (torch.ones(2, dtype=torch.complex64), True),
        (torch.ones(2, dtype=torch.bfloat16), True),
        (torch.arange(2), False),
        (torch.ones(2, dtype=torch.bool), False),
        (torch.eye(2).to_sparse(), False),
        (torch.ones(2, device="meta"), False),
    ],
)
def test_what_statistics_make_sense_of(tensor: Tensor, signal: bool) -> None:
    assert is_signal(tensor) is signal


def test_a_loader_is_no_batch() -> None:
    with pytest.raises(DataError, match=r"next\(iter\(loader\)\)"):
        as_batch(x for x in (X, X))
