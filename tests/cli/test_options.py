"""Options: words are judged before torch is imported, and made into objects after."""

from pathlib import Path

import pytest
import torch

from isograd.cli import _options
from isograd.errors import InputError, TargetError
from isograd.rules import RULES


@pytest.mark.parametrize("name", _options.LOSSES)
def test_every_loss_exists_in_torch(name: str) -> None:
    assert _options.loss(name)() is getattr(torch.nn.functional, name)


@pytest.mark.parametrize("name", _options.OPTIMIZERS)
def test_every_optimizer_can_be_made(name: str) -> None:
    make = _options.optimizer(name.upper(), steps=3, lr=0.25, momentum=None, weight_decay=0.125)
    assert make is not None
    group = make([torch.nn.Parameter(torch.ones(3))]).param_groups[0]
    assert (float(group["lr"]), group["weight_decay"]) == (0.25, 0.125)


def test_what_is_left_out_is_torchs_default() -> None:
    make = _options.optimizer("sgd", steps=0, lr=None, momentum=0.75, weight_decay=None)
    assert make is not None
    mine = make([torch.nn.Parameter(torch.ones(3))]).defaults
    assert mine == {**torch.optim.SGD([torch.ones(3)]).defaults, "momentum": 0.75}


def test_no_optimizer_and_no_loss() -> None:
    assert _options.optimizer(None, steps=0, lr=None) is None
    assert _options.loss(None)() is None


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("adma", {}, r"--optimizer: no 'adma'; did you mean adam"),
        ("lion", {}, r"--optimizer: no 'lion'; there is adadelta, .*sgd"),
        ("adam", {"momentum": 0.9}, r"--momentum: adam has none .* use it with sgd or rmsprop"),
        (None, {"lr": 0.1}, r"--lr needs an optimizer; add --optimizer"),
        (None, {"weight_decay": 0.1}, r"--weight-decay needs an optimizer"),
        (None, {"steps": 5}, r"--steps needs an optimizer"),
    ],
)
def test_a_wrong_optimizer_is_refused(name: str | None, settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        _options.optimizer(name, **{"steps": 0, **settings})


def test_a_loss_of_the_users_own(folder: Path) -> None:
    found = _options.loss("net.py:loss")()
    assert found(torch.ones(2, 3), torch.ones(2)) == 4
    assert isinstance(_options.loss("torch.nn:CrossEntropyLoss")(), torch.nn.CrossEntropyLoss)


def test_a_wrong_loss_is_refused(folder: Path) -> None:
    with pytest.raises(InputError, match=r"no loss 'mse'; did you mean mse_loss; or name module:"):
        _options.loss("mse")
    with pytest.raises(TargetError, match=r"--loss: nte.py: no such file"):
        _options.loss("nte.py:loss")
    with pytest.raises(InputError, match=r"--loss net.py:WIDTH: is of type int; name a callable"):
        _options.loss("net.py:WIDTH")()


def test_codes_may_be_prefixes_and_lists() -> None:
    code = next(iter(RULES)).code
    assert _options.codes([code.lower(), f"IG,{code}"]) == (code, "IG", code)
    assert _options.codes([]) == ()
    with pytest.raises(InputError, match=r"no rule's code begins with 'XX1'; .*isograd rules"):
        _options.codes(["xx1"])


@pytest.mark.parametrize("text", ["cpu", "cuda", "cuda:1", "mps", "xpu", None])
def test_a_device_may_have_a_number(text: str | None) -> None:
    _options.check_device(text)


@pytest.mark.parametrize("text", ["gpu", "cuda:", "cuda:x", "", "cpu,cuda"])
def test_a_wrong_device_is_refused(text: str) -> None:
    with pytest.raises(InputError, match=r"--device: .* is no device; write cpu, cuda"):
        _options.check_device(text)


def test_a_device_that_is_not_here_points_to_the_doctor() -> None:
    absent = "cuda:99" if torch.cuda.is_available() else "cuda"
    with pytest.raises(InputError, match=rf"--device {absent}: .*`isograd doctor`"):
        _options.place(torch.nn.Linear(3, 5), absent, None)


def test_a_model_is_cast() -> None:
    model = torch.nn.Linear(3, 5)
    assert _options.place(model, None, "float64") is torch.float64
    assert model.weight.dtype is torch.float64
    assert _options.place(model, "cpu", None) is None
    assert model.weight.dtype is torch.float64
