"""Dtypes: predict() refuses what torch refuses because of them, and nothing else."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

import isograd
from isograd.errors import ModelError
from isograd.prediction import dtypes

KINDS = [torch.float32, torch.float64, torch.float16, torch.bfloat16]


class Twice(nn.Module):
    """A function of the input and of a copy of it in another dtype."""

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor], dtype: torch.dtype) -> None:
        super().__init__()
        self.first = nn.Linear(6, 6)
        self.function, self.dtype = function, dtype

    def forward(self, x: Tensor) -> Tensor:
        h = self.first(x)
        return self.function(h, h.to(self.dtype))


def cell(x: Tensor, y: Tensor) -> Tensor:
    return torch.gru_cell(x, y, y.repeat(3, 1), y.repeat(3, 1))


def layer(function: Callable[..., Tensor], *shape: int) -> Callable[[Tensor, Tensor], Tensor]:
    """A layer whose weights are made of the second tensor."""
    return lambda x, y: function(x.view(2, 3, 6), y.reshape(-1)[:18].view(shape))


CALLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "linear": F.linear,
    "bias": lambda x, y: F.linear(x, x, bias=y[0]),
    "matmul": lambda x, y: x @ y,
    "mm": torch.mm,
    "bmm": lambda x, y: torch.bmm(x[None], y[None]),
    "mv": lambda x, y: x.mv(y[0]),
    "dot": lambda x, y: x[0].dot(y[0]),
    "addmm": lambda x, y: torch.addmm(y, x, x),
    "baddbmm": lambda x, y: torch.baddbmm(y[None], x[None], x[None]),
    "conv": layer(F.conv1d, 6, 3, 1),
    "conv_transpose": layer(F.conv_transpose1d, 3, 6, 1),
    "attention": lambda x, y: F.scaled_dot_product_attention(x[None], y[None], y[None])[0],
    "einsum": lambda x, y: torch.einsum("ij,jk->ik", x, y),
    "einsum, no sum": lambda x, y: torch.einsum("ij,ij->ij", x, y),
    "tensordot": lambda x, y: torch.tensordot(x, y, 1),
    "gru_cell": cell,
    "prelu": lambda x, y: F.prelu(x, y[0]),
    "layer_norm": lambda x, y: F.layer_norm(x, (6,), y[0], y[1]),
    "rms_norm": lambda x, y: F.rms_norm(x, (6,), y[0]),
    "add": torch.add,
    "mul": torch.mul,
    "outer": lambda x, y: torch.outer(x[0], y[0]),
    "cat": lambda x, y: torch.cat([x, y]),
    "where": lambda x, y: torch.where(torch.ones(6) > 0, x, y),
    "sum into a layer": lambda x, y: F.linear(x + y, x),
    "added in place": lambda x, y: F.linear(x.add_(y), x),
    "scalar into a layer": lambda x, y: F.linear(x * y.new_tensor(2.0), x),
    "mean of another dtype": lambda x, y: F.linear(x, x.mean(-1, True, dtype=y.dtype).expand(6, 6)),
    "softmax of another dtype": lambda x, y: x.softmax(-1, dtype=y.dtype) @ x,
    "converted": lambda x, y: y.to(x) @ x,
    "type_as": lambda x, y: y.type_as(x) @ x,
    "type": lambda x, y: F.linear(y.type(torch.FloatTensor), x.type("torch.FloatTensor")),
    "ones": lambda x, y: torch.ones(6, 6, dtype=y.dtype) @ y + x,
}


@pytest.mark.filterwarnings("ignore:Mismatch dtype")
@pytest.mark.parametrize("dtype", KINDS)
@pytest.mark.parametrize("name", CALLS)
def test_refuses_what_torch_refuses_and_gives_the_dtype_that_torch_gives(
    name: str, dtype: torch.dtype
) -> None:
    for other in KINDS:
        model = Twice(CALLS[name], other).to(dtype)
        x = torch.randn(6, 6, dtype=dtype)
        try:
            with torch.no_grad():
                wanted = [model(x).dtype]
        except RuntimeError:
            wanted = []
        found: list[torch.dtype] = []
        model.register_forward_hook(lambda *given, found=found: found.append(given[2].dtype))
        try:
            isograd.predict(model, x)
            refused = False
        except ModelError as error:
            refused = "would fail: " in str(error)
        assert refused != bool(wanted), other
        if wanted:
            assert found == wanted, other


def test_says_which_is_of_which_dtype_and_what_to_do() -> None:
    said = (
        "predict: linear of 4×64 by 64×64 in '0' would fail: the input is float64, the weight "
        "float32; give inputs of the dtype that the model has, or convert one of them by .to()"
    )
    with pytest.raises(ModelError) as caught:
        isograd.predict(lambda: nn.Sequential(nn.Linear(64, 64)), "float64[4,64]")
    assert str(caught.value) == said
    with pytest.raises(ModelError, match="the input is float32, the weight float16"):
        isograd.predict(lambda: nn.Conv1d(3, 4, 2).half(), "float32[2,3,9]")
    with pytest.raises(ModelError, match="the first is float32, the second float64"):
        isograd.predict(Twice(torch.matmul, torch.float64), torch.randn(6, 6))


@pytest.mark.filterwarnings("ignore:.*CUDA is not available")
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_not_under_autocast(device: str) -> None:
    def under(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast(device, torch.bfloat16):
            return x @ y

    assert isograd.predict(Twice(under, torch.bfloat16), torch.randn(6, 6)).sites

    def behind(x: Tensor, y: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            z = x @ x
        return z @ y

    model = Twice(behind, torch.bfloat16)
    assert model(torch.randn(6, 6)).dtype is torch.bfloat16
    assert isograd.predict(model, torch.randn(6, 6)).sites


def test_meta_tensors_are_asked_only_where_floats_differ() -> None:
    said = dtypes.torchs_own
    same, other = torch.ones(2, 2), torch.ones(2, 2, dtype=torch.float64)
    assert said(torch.inner, (same, other), {})
    assert not said(torch.inner, (same, torch.tensor(1.0, dtype=torch.float64)), {})
    assert not said(torch.inner, (same, torch.ones(3, 3)), {})  # a shape: not its business
