"""Axes of many positions: no table of all pairs of positions is made."""

import tracemalloc

import numpy as np
from torch import nn

import isograd
from isograd.prediction.functions import filters
from isograd.prediction.moments import pairs


def sound():
    return nn.Sequential(
        nn.Conv1d(1, 8, 9, padding=4),
        nn.ReLU(),
        nn.Conv1d(8, 8, 9, padding=4, stride=4),
        nn.ReLU(),
        nn.MaxPool1d(4),
        nn.AdaptiveAvgPool1d(1),
        nn.Flatten(),
        nn.Linear(8, 10),
    )


def test_sixteen_thousand_samples_take_little_memory():
    tracemalloc.start()
    record = isograd.predict(sound, "float32[4,1,16000]")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 400e6  # a table of all pairs of samples alone has 2 GB
    shorter = isograd.predict(sound, "float32[4,1,1600]")
    for site in range(6):
        long, short = (r.value("forward.rms", site) for r in (record, shorter))
        np.testing.assert_allclose(long, short, rtol=0.02)


def test_a_long_axis_has_a_class_at_each_end_and_no_distances():
    rows = np.ones((5000, 1))
    rows[:3] = rows[-2:] = 0.5
    cut = pairs.of_positions(rows)
    assert cut == (3, 4995, 2)
    assert not isinstance(cut, pairs.Line)


def test_how_indices_are_related_needs_no_table(monkeypatch):
    cut, at = (3, 14, 3), np.arange(20)
    every = pairs.labels(cut)
    monkeypatch.setattr(pairs, "LONGEST", 10)
    np.testing.assert_array_equal(filters._related(cut, at[:, None], at), every)
    assert filters._example((2000,), 0) == (1000, 1000)
    first, other = filters._example((2000,), 1)
    nearer = np.abs(np.subtract.outer(np.arange(2000), np.arange(2000))) < other - first
    assert abs(nearer.mean() - 0.5) < 0.01
    assert first + other == 2000
