"""A prediction keeps one core busy, however many threads torch and BLAS have."""

import subprocess
import sys
from collections.abc import Callable
from os import environ

import pytest
import torch
from torch import Tensor, nn

from isograd import predict
from isograd.errors import PredictionError
from isograd.prediction.moments.axes import dotted

PROGRAM = """
import time, torch, scipy.special
from torch import nn
from isograd import predict
layer = nn.TransformerEncoderLayer(96, 12, 384, dropout=0.1, activation="gelu", batch_first=True)
causal = nn.Transformer.generate_square_subsequent_mask(128)
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([layer])
    def forward(self, x):
        for one in self.layers:
            x = one(x, src_mask=causal, is_causal=True)
        return x.relu() + one(x).relu()
torch.set_num_threads(2)
batch = torch.randn(4, 128, 96)
time.sleep(0.2)
began = time.process_time() - time.thread_time()
predict(Net(), batch)
print(time.process_time() - time.thread_time() - began)
"""


def test_other_threads_do_nothing() -> None:
    free = {name: one for name, one in environ.items() if not name.endswith("_NUM_THREADS")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True, env=free
    )
    assert float(done.stdout) < 0.02


class Asks(nn.Module):
    def __init__(self, seen: Callable[[int], None]) -> None:
        super().__init__()
        self.linear, self.seen, self.fails = nn.Linear(4, 4), seen, False

    def forward(self, x: Tensor) -> Tensor:
        self.seen(torch.get_num_threads())
        y: Tensor = self.linear(x)
        if self.fails:
            y.item()
        return y


def test_torch_has_its_threads_back() -> None:
    before, seen = torch.get_num_threads(), list[int]()
    torch.set_num_threads(3)
    try:
        model = Asks(seen.append)
        predict(model, torch.randn(2, 4))
        assert torch.get_num_threads() == 3
        model.fails = True
        with pytest.raises(PredictionError):
            predict(model, torch.randn(2, 4))
        assert torch.get_num_threads() == 3
        assert seen == [1, 1]
    finally:
        torch.set_num_threads(before)


@pytest.mark.parametrize("size", [1, 7, 8192, 8193, 30_000])
def test_long_sums_are_the_same(size: int) -> None:
    values, weights = torch.randn(2, size, dtype=torch.float64)
    brute = sum(a * b for a, b in zip(values.tolist(), weights.tolist(), strict=True))
    assert dotted(values.numpy().reshape(1, -1), weights.numpy()) == pytest.approx(brute, abs=1e-9)
