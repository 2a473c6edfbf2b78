"""Supply: the same batches for everybody, some held out, and the user's data as it was."""

import functools
import random
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pytest
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, TensorDataset

import isograd
from isograd.errors import DataError
from isograd.repairs.supply import HELD_SAMPLES, Source, gather


def batches(count: int, size: int = 64) -> list[tuple[torch.Tensor, torch.Tensor]]:
    return [(torch.full((size, 3), float(i)), torch.full((size,), i)) for i in range(count)]


def test_data_are_read_no_further_than_asked_and_not_twice() -> None:
    read: list[int] = []

    def stream() -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
        for place, item in enumerate(batches(9, 256)):
            read.append(place)
            yield item

    source = Source(stream(), torch.nn.Identity())
    few = gather(source, batches(1, 256)[0], steps=2)
    assert read == [0, 1, 2]
    more = gather(source, batches(1, 256)[0], steps=100)
    assert read == list(range(9))
    assert [first_value(b) for b in few.train] == [1, 2]
    assert [first_value(b) for b in more.train] == list(range(1, 9))
    assert more.train[0] is few.train[0]  # taken apart and checked once


def first_value(batch: object) -> int:
    return int(batch.targets[0])


def test_what_is_held_out_is_never_trained_on() -> None:
    supply = gather(batches(40), batches(1)[0], steps=100)
    held, train = map(first_value, supply.held), map(first_value, supply.train)
    assert supply.apart
    assert len(supply.held) * 64 == HELD_SAMPLES
    assert sorted([*held, *train]) == list(range(40))
    assert [int(y[0]) for _, y in supply.items] == [first_value(b) for b in supply.train]


@pytest.mark.parametrize(("size", "longest", "taken"), [(64, 19, 23), (64, 8, 20), (256, 9, 10)])
def test_short_trials_take_fewer_batches_but_as_much_is_held_out(
    size: int, longest: int, taken: int
) -> None:
    supply = gather(batches(40, size), batches(1, size)[0], steps=32, longest=longest)
    assert len(supply.train) + len(supply.held) == taken
    assert len(supply.held) * size == HELD_SAMPLES


@pytest.mark.parametrize(("count", "held"), [(2, 1), (4, 1), (10, 2)])
def test_of_few_batches_a_fifth_is_held_out(count: int, held: int) -> None:
    supply = gather(batches(count), batches(1)[0], steps=100)
    assert (len(supply.held), len(supply.train)) == (held, count - held)


@pytest.mark.parametrize("data", [[], iter(())])
def test_data_without_a_batch_are_an_error(data: object) -> None:
    with pytest.raises(DataError, match="data: it holds no batch"):
        gather(data, batches(1)[0], steps=100)


@pytest.mark.parametrize("data", [None, batches(1)])
def test_with_one_batch_it_says_that_nothing_is_held_out(data: object) -> None:
    supply = gather(data, batches(1)[0], steps=100)
    assert not supply.apart
    assert len(supply.train) == len(supply.held) == 1
    assert len(supply.notes) == 1


def test_no_more_is_taken_than_trials_need() -> None:
    stream = iter(batches(100))
    supply = gather(stream, batches(1)[0], steps=20)
    assert len(supply.train) == 20
    assert first_value_of(next(stream)) == 20 + len(supply.held)


def first_value_of(item: tuple[torch.Tensor, torch.Tensor]) -> int:
    return int(item[1][0])


def test_an_order_is_told_by_its_seed_and_goes_through_all() -> None:
    supply = gather(batches(10), batches(1)[0], steps=100)
    size = len(supply.train)
    first = [first_value(b) for b in islice(supply.order(1), 2 * size)]
    again = [first_value(b) for b in islice(supply.order(1), 2 * size)]
    other = [first_value(b) for b in islice(supply.order(2), 2 * size)]
    assert first == again != other
    assert sorted(first[:size]) == sorted(first[size:]) == sorted(map(first_value, supply.train))


def test_data_that_cannot_be_used_is_refused() -> None:
    with pytest.raises(DataError, match="an iterable of batches"):
        gather(3, batches(1)[0], steps=10)
    bad = [*batches(1), (torch.full((4, 3), float("nan")), torch.zeros(4))]
    with pytest.raises(DataError, match=r"data: batch 1: .*NaN"):
        gather(bad, batches(1)[0], steps=10)


def test_samples_of_a_data_set_are_no_batches() -> None:
    x, y = torch.randn(40, 3), torch.randint(0, 2, (40,))
    samples = torch.utils.data.TensorDataset(x, y)
    with pytest.raises(
        DataError, match=r"data: batch 0: .*shape \[3\].* 8 .*batch_size=8"
    ) as raised:
        gather(samples, (x[:8], y[:8]), steps=10)
    assert "DataLoader" in str(raised.value)
    with pytest.raises(DataError, match="the batch of step 0: it is one sample"):
        isograd.check(
            torch.nn.Linear(3, 2),
            (x[:8], y[:8]),
            optimizer=functools.partial(torch.optim.SGD, lr=0.1),
            data=samples,
            steps=2,
        )
    loader = torch.utils.data.DataLoader(samples, batch_size=8)
    assert len(gather(loader, (x[:8], y[:8]), steps=10).train) == 4
    short = [(x[:3], y[:3])] * 5  # three samples of three numbers
    assert len(gather(short, (x[:8], y[:8]), steps=10).train) == 4


def test_a_batch_without_a_rare_positive_says_nothing_against_the_data() -> None:
    torch.manual_seed(0)
    x = torch.randn(640, 8)
    y = (x[:, :1] > 1.8).float()  # four in a hundred
    order = y[:, 0].argsort(stable=True)
    rare = torch.cat([order[:64], order[64:][torch.randperm(576)]])  # the first 64 are zeros
    batches = list(zip(x[rare].split(64), y[rare].split(64), strict=True))
    assert float(batches[0][1].max()) == 0
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    loss = nn.BCEWithLogitsLoss()
    done = isograd.repair(model, batches[0], loss, data=batches)
    assert "IG608" not in [f.code for f in done.before.findings]
    assert any(note.startswith("batch: its targets are all equal") for note in done.notes)
    # Data that are sorted stay suspicious.
    sorted_ones = list(zip(x[order].split(64), y[order].split(64), strict=True))[:8]
    done = isograd.repair(model, sorted_ones[0], loss, data=sorted_ones)
    assert "IG608" in [f.code for f in done.before.findings]


def test_a_rest_of_few_samples_decides_nothing() -> None:
    torch.manual_seed(0)
    x, y = torch.randn(65, 8), torch.randint(3, (65,))
    items = list(zip(x.split(64), y.split(64), strict=True))
    supply = gather(items, items[0], steps=100)
    assert [b.size for b in supply.train] == [b.size for b in supply.held] == [64]
    assert not supply.apart
    note, one = supply.notes
    assert note.startswith(
        "data: 1 of 2 batches left out, with as few as 1 sample where 64 are usual; drop_last"
    )
    assert "there is one batch" in one
    pairs = [m for _ in range(12) for m in (nn.Linear(32, 32), nn.Sigmoid())]
    model = nn.Sequential(nn.Linear(8, 32), *pairs, nn.Linear(32, 3))
    done = isograd.repair(model, items[0], data=items)
    assert done.verdict == "repaired"
    assert note in done.notes
    # A batch norm raises on it, so that it is told of a healthy network, too.
    norm = nn.Sequential(nn.Linear(8, 32), nn.BatchNorm1d(32), nn.ReLU(), nn.Linear(32, 3))
    done = isograd.repair(norm, items[0], data=items)
    assert done.verdict == "healthy"
    assert note in done.notes
    rests = [*batches(9, 32), *batches(1, 7), *batches(1, 8)]
    kept = gather(rests, rests[0], steps=100)
    assert sorted(b.size for b in (*kept.train, *kept.held)) == [8] + 9 * [32]


@pytest.mark.parametrize("one", [False, True])
def test_a_loader_that_shuffles_leaves_the_random_numbers_as_they_were(one: bool) -> None:
    torch.manual_seed(0)
    x = torch.randn(640, 8)
    y = (x[:, :1] > 1.5).float()
    order = y[:, 0].argsort(stable=True)
    part = order[:64] if one else order[-64:]  # zeros alone: another batch is looked for
    loader = DataLoader(TensorDataset(x, y), 64, shuffle=True)
    model = nn.Sequential(nn.Linear(8, 32), nn.ReLU(), nn.Linear(32, 1))
    before = torch.get_rng_state()
    isograd.repair(model, (x[part], y[part]), nn.BCEWithLogitsLoss(), data=loader, budget=60)
    assert torch.equal(before, torch.get_rng_state())


def test_data_are_batches_of_inputs_and_targets() -> None:
    x, y = torch.randn(64, 8), torch.randint(3, (64,))
    model = nn.Linear(8, 3)
    for data in ((x, y), [x, x]):
        with pytest.raises(DataError, match=r"data: batch 0 has no targets.*data=\[\(inputs, targ"):
            isograd.repair(model, (x, y), data=data)
    assert isograd.repair(model, (x, y), data=[(x, y)]).verdict
    with pytest.raises(DataError, match=r"batch: input 0 is float32\[0, 8\], which holds"):
        isograd.repair(model, (x[:0], y[:0]))
    with pytest.raises(DataError, match=r"data: batch 1: input 0 is float32\[0, 8\]"):
        gather([(x, y), (x[:0], y[:0])], (x, y), steps=10)


def test_random_numbers_of_python_and_numpy_are_put_back() -> None:
    class Noisy(Dataset[tuple[torch.Tensor, int]]):
        def __len__(self) -> int:
            return 320

        def __getitem__(self, place: int) -> tuple[torch.Tensor, int]:
            noise = random.random() + np.random.rand()  # noqa: NPY002  # as augmentations do
            return torch.randn(8) + noise, place % 3

    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    before = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    pairs = [m for _ in range(12) for m in (nn.Linear(8, 8), nn.Sigmoid())]  # not healthy
    model = nn.Sequential(*pairs, nn.Linear(8, 3))
    loader = DataLoader(Noisy(), 32, shuffle=True)
    isograd.repair(model, (torch.randn(32, 8), torch.arange(32) % 3), data=loader, budget=60)
    after = random.getstate(), np.random.get_state()[1].tolist()  # type: ignore[index]  # noqa: NPY002
    assert after == before
