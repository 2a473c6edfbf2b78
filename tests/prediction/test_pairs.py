"""Tests of the algebra of pairs along one axis, against pairs counted one by one."""

from itertools import pairwise

import numpy as np
import pytest
from covariances import averaging, classes_of, cuts_of, membership, table
from hypothesis import given
from hypothesis import strategies as st

from isograd.prediction.moments import pairs
from isograd.prediction.moments.means import averaged, distances


@st.composite
def two_cuts(draw):
    size = draw(st.integers(2, 8))
    return draw(cuts_of(size, lines=True)), draw(cuts_of(size, lines=True))


@given(two_cuts())
def test_counts_count_the_pairs_of_each_way(cuts):
    cut, _ = cuts
    found = np.bincount(table(cut).ravel(), minlength=pairs.ways(cut))
    np.testing.assert_array_equal(pairs.counts(cut), found)
    same = np.bincount(np.diag(table(cut)), minlength=pairs.ways(cut))
    np.testing.assert_array_equal(pairs.same_counts(cut), same)
    np.testing.assert_allclose(pairs.shares(cut), found / found.sum())
    np.testing.assert_allclose(pairs.same_shares(cut), same / same.sum())


@given(two_cuts())
def test_ends_are_the_classes_of_both_indices(cuts):
    cut, _ = cuts
    classes = np.array(classes_of(cut))
    first, second = pairs.ends(cut)
    i, j = np.indices(table(cut).shape)
    np.testing.assert_array_equal(first[table(cut)], classes[i])
    np.testing.assert_array_equal(second[table(cut)], classes[j])


@given(two_cuts())
def test_the_common_cut_is_the_coarsest_that_is_finer_than_both(cuts):
    a, b = cuts
    found = pairs.common(a, b)
    both = list(zip(classes_of(a), classes_of(b), strict=True))
    of, of_both = np.array(classes_of(found)), np.array([both.index(one) for one in both])
    together = of_both[:, None] == of_both
    if not isinstance(found, pairs.Mirror):  # neighbors only
        runs = np.cumsum([0, *(one != two for one, two in pairwise(both))])
        together = runs[:, None] == runs
    np.testing.assert_array_equal(of[:, None] == of, together)
    assert isinstance(found, pairs.Line) == any(isinstance(one, pairs.Line) for one in cuts)


@given(two_cuts(), st.integers(0, 99))
def test_refining_and_coarsening_are_averages_over_pairs(cuts, seed):
    a, b = cuts
    fine = pairs.common(a, b)
    n = sum(a)
    x = np.random.default_rng(seed).normal(size=(n, n))
    coarse = np.tensordot(averaging(a), x, 2)
    np.testing.assert_allclose(
        coarse[pairs.refining(a, fine)], np.tensordot(averaging(fine), coarse[table(a)], 2)
    )
    finer = np.tensordot(averaging(fine), x, 2)
    np.testing.assert_allclose(pairs.coarsening(fine, a) @ finer, coarse, atol=1e-13)


@given(two_cuts(), st.integers(2, 7), st.data())
def test_a_matrix_takes_averages_over_pairs_to_averages_over_pairs(cuts, rows, data):
    into, _ = cuts
    out = data.draw(cuts_of(rows, lines=True))
    rng = np.random.default_rng(data.draw(st.integers(0, 99)))
    matrix = rng.normal(size=(rows, sum(into)))
    ways = rng.normal(size=pairs.ways(into))
    for c, size in enumerate(into):  # a lone entry is another one only of itself
        if size == 1 and not isinstance(into, pairs.Line):
            ways[len(into) + c * len(into) + c] = ways[c]
    x = ways[table(into)]
    found = np.tensordot(averaging(out), matrix @ x @ matrix.T, 2)
    np.testing.assert_allclose(pairs.transition(matrix, out, into) @ ways, found, atol=1e-12)
    means = rng.normal(size=len(into))
    spread = membership(out) @ matrix @ means[classes_of(into)]
    np.testing.assert_allclose(pairs.means_of(matrix, out, into) @ means, spread, atol=1e-12)


def test_means_over_pairs():
    """Of all pairs, and of entries with themselves, against the full table."""
    cuts = (pairs.Mirror((2, 5)), (2, 3))
    rng = np.random.default_rng(2)
    table = rng.standard_normal([pairs.ways(cut) for cut in cuts])
    one, two = (pairs.labels(cut) for cut in cuts)
    whole = table[one[:, :, None, None], two]
    assert averaged(table, cuts, {0, 1}) == pytest.approx(whole.mean())
    own = np.einsum("abcc->abc", whole).mean()
    assert averaged(table, cuts, {0}) == pytest.approx(own)


def test_distances():
    """Of near pairs as they are, of far ones on average; unknown where nothing is told."""
    line = pairs.Mirror((9,))
    labels, at = pairs.labels(line), np.arange(9)
    apart = np.abs(at[:, None] - at)
    found = distances(line)[labels]
    near = apart < 2
    assert (found[near] == apart[near]).all()
    assert found[apart > 3].mean() == pytest.approx(apart[apart > 3].mean())
    assert distances((4,)).tolist() == [0.0, np.inf]
