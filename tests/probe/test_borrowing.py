"""Whatever a forward does to its own model, the model comes back as it was lent."""

import random
from collections import deque
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from isograd.errors import ModelError
from isograd.probe.borrowing import borrowed
from patients.snapshot import changes, snapshot


class Lent(nn.Module):
    """A model with one of everything that a forward may write to."""

    def __init__(self) -> None:
        super().__init__()
        self.fc, self.norm = nn.Linear(7, 5), nn.BatchNorm1d(5)
        self.book = nn.Parameter(torch.ones(3), requires_grad=False)
        self.plain = torch.zeros(4)
        self.seen: list[int] = [1]
        self.last: deque[int] = deque([1, 2], maxlen=2)
        self.names = {"a"}
        self.table = {"a": 1}
        self.step = 3
        self.norm.eval()


def replace_buffer(m: Lent) -> None:
    m.norm.running_mean = torch.full((5,), 7.0)


def drop_module(m: Lent) -> None:
    del m.norm


def add_parameter(m: Lent) -> None:
    m.register_parameter("more", nn.Parameter(torch.ones(2)))


def draw(m: Lent) -> None:
    torch.randn(3)
    np.random.rand(3)  # noqa: NPY002  # the generator that users' code shares
    random.random()


DEEDS: dict[str, Callable[[Lent], object]] = {
    "mode": lambda m: m.norm.train(),
    "mode of all": lambda m: m.eval(),
    "freezes": lambda m: m.fc.weight.requires_grad_(False),
    "melts": lambda m: m.book.requires_grad_(True),
    "gradient": lambda m: setattr(m.fc.weight, "grad", torch.ones(5, 7)),
    "no gradient": lambda m: setattr(m.fc.bias, "grad", None),
    "buffer": lambda m: m.norm.running_var.mul_(2),
    "buffer of NaN": lambda m: m.norm.running_var.fill_(torch.nan),
    "counter": lambda m: m.norm.num_batches_tracked.add_(1),
    "other buffer": replace_buffer,
    "new buffer": lambda m: m.register_buffer("cache", torch.ones(2)),
    "less modules": drop_module,
    "new parameter": add_parameter,
    "frozen parameter": lambda m: m.book.data.add_(1),
    "tensor": lambda m: m.plain.add_(1),
    "other tensor": lambda m: setattr(m, "plain", torch.ones(9)),
    "list": lambda m: m.seen.append(2),
    "list of equal length": lambda m: m.seen.__setitem__(0, 5),
    "deque": lambda m: m.last.append(3),
    "set": lambda m: m.names.add("b"),
    "dict": lambda m: m.table.update(a=2),
    "number": lambda m: setattr(m, "step", 4),
    "new attribute": lambda m: setattr(m, "other", 4),
    "less attributes": lambda m: delattr(m, "step"),
    "random numbers": draw,
}


@pytest.mark.parametrize("deed", DEEDS.values(), ids=DEEDS)
@pytest.mark.parametrize("raises", [False, True])
def test_everything_comes_back(deed: Callable[[Lent], object], raises: bool) -> None:
    model = Lent()
    model.fc.bias.grad = torch.full((5,), 2.0)
    before = snapshot(model)
    kept = {name: list(getattr(model, name)) for name in ("seen", "last", "names", "table")}
    things = (model.seen, model.plain, model.fc.bias.grad, model.norm.running_mean)
    drawn = (torch.get_rng_state(), np.random.get_state()[1].tolist(), random.getstate())  # noqa: NPY002
    try:
        with borrowed(model):
            assert model.fc.bias.grad is None
            deed(model)
            if raises:
                raise KeyError("on purpose")
    except KeyError:
        assert raises
    assert changes(before, snapshot(model)) == []
    assert {name: list(getattr(model, name)) for name in kept} == kept
    assert model.table == {"a": 1}
    assert (model.step, hasattr(model, "other")) == (3, False)
    assert float(model.plain.sum()) == 0
    now = (model.seen, model.plain, model.fc.bias.grad, model.norm.running_mean)
    assert all(a is b for a, b in zip(things, now, strict=True))  # the same objects
    assert torch.equal(drawn[0], torch.get_rng_state())
    assert drawn[1] == np.random.get_state()[1].tolist()  # noqa: NPY002
    assert drawn[2] == random.getstate()
    assert [m.training for m in (model, model.fc, model.norm)] == [True, True, False]
    assert [p.requires_grad for p in model.parameters()] == [False, True, True, True, True]


def test_what_was_not_touched_keeps_its_version() -> None:
    """A write, even of the same values, would break a graph that is waiting for its backward."""
    model = Lent()
    versions: list[int] = [t._version for t in (*model.parameters(), *model.buffers())]
    out: Tensor = model.norm(model.fc(torch.ones(3, 7))).sum()
    with borrowed(model):
        pass
    assert [t._version for t in (*model.parameters(), *model.buffers())] == versions
    out.backward()


def test_a_lazy_model_is_not_lent() -> None:
    with (
        pytest.raises(ModelError, match=r"parameter 'weight' is lazy .*; run the model on one"),
        borrowed(nn.LazyLinear(5)),
    ):
        pass


def test_a_backward_that_is_due_still_can() -> None:
    """Autograd counts the writes to what it saved; a buffer that is put back was not written to."""
    model = nn.BatchNorm1d(5)
    x = torch.randn(7, 5, requires_grad=True)
    loss = (model(x) * model.running_var).square().sum()
    with borrowed(model):
        model(torch.randn(7, 5))
        model.running_var.add_(1)  # type: ignore[union-attr]
    loss.backward()
    assert x.grad is not None


def test_tensors_of_inference_mode_are_refused() -> None:
    with torch.inference_mode():
        model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8))
    with pytest.raises(ModelError, match=r"'0\.weight' is an inference tensor"), borrowed(model):
        pass


def test_generators_of_its_own_go_on_where_they_were() -> None:
    model = nn.Linear(3, 2)
    model.torch = torch.Generator().manual_seed(3)
    model.numpy, model.python = np.random.default_rng(3), random.Random(3)

    def draws() -> tuple[float, ...]:
        drawn = torch.rand((), generator=model.torch)
        return float(drawn), float(model.numpy.random()), model.python.random()

    with borrowed(model):
        first = draws()
    assert draws() == first


def test_who_borrows_first_puts_the_generators_of_numpy_and_python_back() -> None:
    model = nn.Linear(2, 2)
    numpy, python = np.random.get_state()[1].copy(), random.getstate()  # noqa: NPY002
    with borrowed(model):
        with borrowed(model):
            np.random.rand(700)  # noqa: NPY002
            random.random()
        assert (np.random.get_state()[1] != numpy).any()  # noqa: NPY002
    assert (np.random.get_state()[1] == numpy).all()  # noqa: NPY002
    assert random.getstate() == python
    np.random.rand(700)  # noqa: NPY002
    now = np.random.get_state()[1].copy()  # noqa: NPY002
    with borrowed(model):  # the one before has ended
        np.random.rand(700)  # noqa: NPY002
    assert (np.random.get_state()[1] == now).all()  # noqa: NPY002
