"""IG601 where a layer's outputs do not tell the scale of what it reads."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import isograd


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU, nn.RNN])
@pytest.mark.parametrize(("offset", "scale"), [(3e4, 2e3), (0.0, 100.0), (0.0, 1.0)])
def test_raw_inputs_of_a_recurrent_layer_are_seen(
    kind: type[nn.Module], offset: float, scale: float
) -> None:
    class Reader(nn.Module):
        def __init__(self, *, inside: bool) -> None:
            super().__init__()
            self.layer, self.head = kind(3, 16, batch_first=True), nn.Linear(16, 1)
            self.inside = inside

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            x = (x - offset) / scale if self.inside else x
            out: torch.Tensor = self.head(self.layer(x)[0][:, -1])
            return out

    torch.manual_seed(0)
    batch = offset + scale * torch.randn(32, 10, 3), torch.randn(32, 1)
    for inside in (False, True):  # the outputs are bounded, so that they do not tell
        told = isograd.check(Reader(inside=inside), batch, F.mse_loss)
        found = any(f.code == "IG601" for f in told.findings)
        assert found == (scale > 1 and not inside), str(told)


@pytest.mark.parametrize("summed", [False, True])
def test_raw_targets_are_no_sum_over_the_columns(summed: bool) -> None:
    # Their mean is 1.7 deviations from zero: the loss starts at 3.9 times that of a constant.
    def over_columns(out: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (out - y).square().sum(1).mean()

    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(12, 16), nn.ReLU(), nn.Linear(16, 12))
    x, y = torch.randn(64, 12), 255 * torch.rand(64, 12)
    told = isograd.check(model, (x, y), over_columns if summed else F.mse_loss)
    found = {f.code: f.severity.value for f in told.findings}
    assert found["IG602"] in ("warning", "error"), str(told)
