"""Tables: rows of places, what two devices and a graph under torch.compile make of them."""

import math

import pytest
import torch

from isograd.errors import CatalogueError
from isograd.statistics import COLUMNS, SUMS, Place, Table, derive, sums, unscale
from isograd.statistics.backends import BACKENDS, best
from isograd.statistics.columns import merge

RELU = Place(low=0.0, units=5)
PLACES = [Place(), RELU, Place(-1.0, 1.0, units=3, axis=1)]


def noise(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_rows_add_up() -> None:
    table = Table(PLACES, "cpu")
    first, second = noise(7, 5), noise(2, 3, 11, seed=1)
    table.read(0, first)
    table.read(0, second)
    table.read_all([2], [second])
    both = torch.cat([first.reshape(-1), second.reshape(-1)])
    assert table.values[0, : len(SUMS)].tolist() == pytest.approx(sums(both).tolist(), rel=1e-6)
    assert table.values[2, :2].tolist() == [66, 0]
    assert table.values[2, -1].item() == (second >= 1).sum()
    assert table.values[1].tolist() == Table([RELU], "cpu").values[0].tolist()


def test_a_row_that_was_not_read_has_no_statistics() -> None:
    values = Table(PLACES, "cpu").values
    assert derive(values[0, : len(SUMS)].tolist())["rms"] is None
    assert unscale(values).tolist() == values.tolist()


def test_dead_units() -> None:
    table = Table(PLACES, "cpu")
    assert table.dead().tolist() == [[0, 0], [0, 0], [0, 0]]
    x = noise(7, 5).abs()
    x[:, 1:3] *= -1
    x[2, 2] = 4.0
    table.read(1, x)
    channels = noise(2, 3, 11).clamp(-0.9, 0.9)
    channels[0, 1], channels[1, 1] = -1.0, 2.0
    table.read(2, channels)
    assert table.dead().tolist() == [[0, 0], [5, 1], [3, 1]]
    table.read(1, torch.ones(1, 5))
    assert table.dead().tolist() == [[0, 0], [5, 0], [3, 1]]
    table.clear()
    assert table.dead().sum() == 0
    assert torch.equal(table.values, Table(PLACES, "cpu").values)


def test_thresholds_are_float32_numbers() -> None:
    """0.1 is above the float32 next to it, which is above the double: both are at the threshold."""
    table = Table([Place(0.1, 0.1)], "cpu")
    for dtype in (torch.float32, torch.float64):
        table.read(0, torch.tensor([0.1], dtype=torch.float32).to(dtype))
    assert table.values[0, -2:].tolist() == [2, 2]


def test_two_tables_are_one() -> None:
    """What ranks do: rows are merged, flags take the larger one."""
    whole, parts = Table(PLACES, "cpu"), [Table(PLACES, "cpu") for _ in range(2)]
    x = noise(8, 5)
    x[:, 3] = -1.0
    x[:4, 2] = -2.0
    whole.read(1, x)
    for part, half in zip(parts, x.split(4), strict=True):
        part.read(1, half)
    merged = merge(parts[0].values, parts[1].values)
    assert merged[1].tolist() == pytest.approx(whole.values[1].tolist(), rel=1e-6)
    parts[0].flags = torch.maximum(parts[0].flags, parts[1].flags)
    assert torch.equal(parts[0].dead(), whole.dead())


def test_a_backend_may_be_asked_for() -> None:
    assert Table(PLACES, "cpu", backend="reference").backend.code == "reference"
    assert Table(PLACES, "cpu").backend is best("cpu")
    with pytest.raises(CatalogueError, match=r"unknown code 'fast'.*graph, .*reference"):
        Table(PLACES, "cpu", backend="fast")
    assert best("hpu") is BACKENDS["graph"]


def test_nothing_is_read_back_from_a_device() -> None:
    """A meta tensor has no data to read."""
    table = Table(PLACES, "meta")
    table.read(1, torch.empty(7, 5, device="meta"))
    table.read_all([0, 2], [torch.empty(0, device="meta"), torch.empty(2, 3, 11, device="meta")])
    assert table.dead().device.type == "meta"
    table.clear()


def test_a_tensor_of_another_device_is_sent_as_a_row(monkeypatch: pytest.MonkeyPatch) -> None:
    sent = []
    plain = torch.Tensor.to

    def to(tensor: torch.Tensor, *args, **kwargs) -> torch.Tensor:
        sent.append(tensor.numel())
        return plain(tensor, *args, **kwargs)

    table = Table(PLACES, "meta")
    monkeypatch.setattr(torch.Tensor, "to", to)
    table.read(1, noise(700, 5))
    assert max(sent) == len(COLUMNS)


@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
def test_reads_become_part_of_a_graph(backend: str) -> None:
    table, expected = Table(PLACES, "cpu", "graph"), Table(PLACES, "cpu")

    def forward(x: torch.Tensor) -> torch.Tensor:
        y = x.relu()
        table.read(1, y)
        table.read(0, y)
        return y * 2

    x = noise(7, 5)
    x[:, 3], x[1, 2] = -1.0, math.inf
    compiled = torch.compile(forward, fullgraph=True, backend=backend)
    for _ in range(2):
        compiled(x)
        expected.read_all([0, 1], [x.relu(), x.relu()])
    for seen, truth in zip(table.values.tolist(), expected.values.tolist(), strict=True):
        assert seen == pytest.approx(truth, rel=1e-6)
    assert table.dead().tolist() == expected.dead().tolist() == [[0, 0], [5, 1], [0, 0]]


def test_parts_are_read_together_when_somebody_asks() -> None:
    """Without a short cut, as on a GPU: what a part says is that of `part`, without its units."""
    x = torch.randn(64, 4096, generator=torch.Generator().manual_seed(1))
    table = Table([Place(0.0, units=4096)] * 2, "cpu", backend="graph")  # as many as a part has
    for row in (0, 1, 1):
        table.read_part(row, x)
    x.zero_()  # what waits is a copy
    count, rms = table.values[:, 0].tolist(), table.values[:, 5].tolist()
    assert count == [4096, 8192]
    assert rms == pytest.approx([4096, 8192], rel=0.1)
    assert not table.flags.any()
    table.read_part(0, x)
    table.clear()
    assert table.values[0, 0] == 0
