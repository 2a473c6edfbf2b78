from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import init

from isograd.errors import InputError, PredictionError
from isograd.prediction.recording import recording

# -- what cannot be recorded --------------------------------------------------------------------


def peeking(ask: Callable[[nn.Linear], object]) -> type[nn.Module]:
    class Peeking(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner = nn.Linear(6, 6)
            with torch.no_grad():
                self.asked = ask(self.inner)

    return Peeking


def set_data(layer: nn.Linear, values: Tensor) -> None:
    layer.weight.data = values


REFUSED: dict[str, Callable[[nn.Linear], object]] = {
    "item": lambda m: m.weight[0, 0].item(),
    "item of a norm": lambda m: m.weight.norm().item(),
    "float": lambda m: float(m.weight.abs().max()),
    "tolist": lambda m: m.weight.tolist(),
    "numpy": lambda m: m.weight.detach().numpy(),
    "bool": lambda m: bool((m.weight > 0).all()),
    "nonzero": lambda m: m.weight.nonzero(),
    "svd to a parameter": lambda m: nn.ParameterList([torch.linalg.svd(m.weight)[1]]),
    "svd copied back": lambda m: m.weight.copy_(torch.linalg.svd(m.weight)[0]),
    "svd as data": lambda m: set_data(m, torch.linalg.svd(m.weight)[0]),
    "svd into a part": lambda m: m.weight.__setitem__(0, torch.linalg.svd(m.weight)[0][0]),
    "sorted in place": lambda m: m.weight.data.copy_(m.weight.sort()[0]),
    "written where it is positive": lambda m: m.weight.__setitem__(m.weight > 0, 0.0),
    "divided by its spectral norm": lambda m: m.weight.div_(torch.linalg.norm(m.weight, 2)),
    "cumulated in place": lambda m: m.weight.data.cumsum_(0),
    "orthogonal": nn.utils.parametrizations.orthogonal,
    "complex": lambda m: nn.ParameterList([torch.randn(3, dtype=torch.complex64)]),
    "divided by zero": lambda m: m.weight.div_(torch.zeros(())),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_needs_values_is_refused(name: str) -> None:
    network = peeking(REFUSED[name])
    with pytest.raises(PredictionError) as caught, recording():
        network()
    message = str(caught.value)
    assert "test_recording_refusals.py, line" in message
    assert "recording: " in message
    assert "build the real model" in message
    assert isinstance(caught.value, InputError)
    network()  # which is what it says to do
    with recording():
        nn.Linear(2, 2)


NAMED = {
    r"item in 'Peeking' \(test_recording_refusals.py, line \d+": lambda m: m.weight.sum().item(),
    r"parameter '0' of ParameterList .* linalg_svd in 'Peeking'": lambda m: nn.ParameterList(
        [torch.linalg.svd(m.weight)[1]]
    ),
}


@pytest.mark.parametrize("match", NAMED)
def test_a_refusal_names_call_and_module(match: str) -> None:
    network = peeking(NAMED[match])
    with pytest.raises(PredictionError, match=match), recording():
        nn.Sequential(network())


def test_errors_of_the_model_are_its_own() -> None:
    with recording():
        with pytest.raises(RuntimeError, match="size of tensor"):
            nn.Linear(3, 4).weight.copy_(torch.randn(5, 5))
        with pytest.raises(RuntimeError, match="std"):
            torch.empty(3).normal_(0.0, -1.0)
        with pytest.raises(ValueError, match="Fan in"):
            init.kaiming_uniform_(torch.empty(3))
