"""Tests of fields against covariances written out: every operation as a matrix on all entries."""

from itertools import chain, pairwise

import numpy as np
import pytest
import torch
from covariances import (
    assert_maps,
    assert_moments,
    assert_sound,
    averaged,
    cuts_of,
    factorizations,
    fields,
    layouts,
    made,
    written_out,
)
from hypothesis import assume, given
from hypothesis import strategies as st

from isograd.prediction.functions.norms import fluctuating
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.fields import Field
from isograd.prediction.moments.known import constant, empirical, independent, scalar
from isograd.prediction.moments.parts import embedded, gathered, joined, part, scattered
from isograd.prediction.moments.picking import repeated, repeats_summed
from isograd.prediction.operands import Constants


def unchanged(x):
    return x


@given(fields(lines=True))
def test_written_out_and_averaged_again_is_the_same(f):
    assert_maps(f, unchanged, f)


@given(fields(lines=True))
def test_numbers_of_a_field(f):
    second, mean = written_out(f)
    np.testing.assert_allclose(f.energy, np.diag(second).mean())
    np.testing.assert_allclose(f.average, mean.mean())
    energies, _ = averaged(np.diag(np.diag(second)), mean, f.cuts)
    same = tuple(slice(0, len(cut)) for cut in f.cuts)
    np.testing.assert_allclose(f.energies, energies[same])
    products, _ = averaged(np.outer(mean, mean), mean, f.cuts)
    np.testing.assert_allclose(f.products(), products, atol=1e-12)
    first, other = f.per_pair(f.mean)
    wide = np.broadcast_to(first * other, f.second.shape)
    np.testing.assert_allclose(wide, products, atol=1e-12)


@given(fields(lines=True), st.data())
def test_recut(f, data):
    cuts = [data.draw(cuts_of(sum(cut))) for cut in f.cuts]
    found = f.recut(cuts)
    assert list(found.cuts) == cuts
    assert_maps(found, unchanged, f)


@given(fields(lines=True), st.data())
def test_permuted(f, data):
    order = data.draw(st.permutations(range(len(f.groups))))
    assert_maps(f.permuted(order), lambda x: x.transpose(order), f)


@given(fields(), st.data())
def test_merged(f, data):
    places = [p for axis in range(len(f.groups)) for p in f.factors_of(axis)[:-1]]
    assume(places)
    assert_maps(f.merged(data.draw(st.sampled_from(places))), unchanged, f)


@given(fields(), st.data())
def test_split(f, data):
    places = [(p, d) for p, n in enumerate(f.sizes) for d in range(2, n) if n % d == 0]
    assume(places)
    place, outer = data.draw(st.sampled_from(places))
    found = f.split(place, outer)
    assert found.sizes[place] == outer
    assert_maps(found, unchanged, f)


@given(fields(), st.data())
def test_as_one(f, data):
    assume(f.groups)
    axis = data.draw(st.integers(0, len(f.groups) - 1))
    found = f.as_one(axis)
    assert found.groups[axis] == min(f.groups[axis], 1)
    assert_maps(found, unchanged, f)


@given(fields(several=False), st.data())
def test_reshaped(f, data):
    f = f.recut([(n,) for n in f.sizes])
    shape = data.draw(st.sampled_from(factorizations(int(np.prod(f.sizes)))))
    nested = nest(f.sizes, shape)
    for at in sorted(data.draw(st.lists(st.integers(0, len(shape)), max_size=2)), reverse=True):
        shape = (*shape[:at], 1, *shape[at:])
    found = f.reshaped(shape)
    assert found.shape == shape
    if nested:
        assert_maps(found, lambda x: x.reshape(shape), f)
    else:  # what reaches over a border is averaged; all pairs together stay the same
        assert_sound(found)
        for part_of, whole in zip(totals(found), totals(f), strict=True):
            np.testing.assert_allclose(part_of, whole)


def nest(old, new):
    """Whether two factorizations of a number have a common refinement."""
    edges = sorted({*np.cumprod(old).tolist(), *np.cumprod(new).tolist()})
    return all(b % a == 0 for a, b in pairwise(edges))


def totals(f):
    """What no averaging over pairs changes."""
    second, mean = written_out(f)
    return second.sum(), np.trace(second), mean.sum()


@given(fields(lines=True), st.data())
def test_expanded_and_summed_to(f, data):
    extra = data.draw(st.lists(st.integers(1, 3), max_size=2))
    shape = (*extra, *(data.draw(st.integers(1, 3)) if n == 1 else n for n in f.shape))
    wide = f.expanded(shape)
    assert_maps(wide, lambda x: np.broadcast_to(x, shape), f)
    gradient = made(np.random.default_rng(1), wide.cuts, wide.groups)
    found = gradient.summed_to(f.shape)
    axes = [*range(len(extra)), *(a + len(extra) for a, n in enumerate(f.shape) if n == 1)]
    assert_maps(found, lambda x: x.sum(tuple(axes)).reshape(f.shape), gradient)


@given(fields(lines=True), st.data(), st.booleans())
def test_summed(f, data, average):
    assume(f.groups)
    axes = data.draw(st.sets(st.integers(0, len(f.groups) - 1)))
    places = [place for axis in axes for place in f.factors_of(axis)]
    kind = np.mean if average else np.sum
    found = f.summed(places, average=average)
    assert_maps(found, lambda x: kind(x, axis=tuple(axes), keepdims=True), f)


@given(fields(lines=True), st.data())
def test_mapped(f, data):
    assume(f.cuts)
    place = data.draw(st.integers(0, len(f.cuts) - 1))
    cut = data.draw(cuts_of(data.draw(st.integers(2, 5))))
    matrix = np.random.default_rng(3).normal(size=(sum(cut), f.sizes[place]))
    flat = f.regrouped((1,) * len(f.cuts))
    found = flat.mapped(place, matrix, cut)
    assert_maps(found, lambda x: np.moveaxis(np.tensordot(matrix, x, (1, place)), 0, place), flat)


@given(fields(), st.data())
def test_part_and_embedded(f, data):
    assume(f.groups)
    axis = data.draw(st.integers(0, len(f.groups) - 1))
    size = f.shape[axis]
    start = data.draw(st.integers(0, size - 1))
    stop = data.draw(st.integers(start + 1, size))
    found = part(f, axis, start, stop)

    def slicing(x):
        return np.moveaxis(np.moveaxis(x, axis, 0)[start:stop], 0, axis)

    inner = np.prod([f.sizes[place] for place in f.factors_of(axis)[1:]])
    fits = start % inner == 0 and stop % inner == 0
    whole = f if fits else f.as_one(axis)  # what begins inside a row is cut off a single factor
    assert_maps(found, slicing, whole)
    back = embedded(found, axis, start, size)

    def zeros_around(x):
        wide = np.zeros((size, *np.moveaxis(x, axis, 0).shape[1:]))
        wide[start:stop] = np.moveaxis(x, axis, 0)
        return np.moveaxis(wide, 0, axis)

    assert_maps(back, zeros_around, found if stop - start == size else found.as_one(axis))


@given(fields((1, 3)), st.data())
def test_gathered_and_scattered(f, data):
    first = data.draw(st.integers(0, len(f.groups) - 1))
    axes = range(first, data.draw(st.integers(first + 1, min(first + 2, len(f.groups)))))
    sizes = tuple(f.shape[axis] for axis in axes)
    shape = tuple(data.draw(st.lists(st.integers(1, 3), min_size=1, max_size=2)))
    rng = np.random.default_rng(data.draw(st.integers(0, 999)))
    index = [rng.integers(0, size, shape) for size in sizes]
    for axis in axes:  # each axis is taken as a single factor
        f = f.as_one(axis)

    def choice(x):
        return x[(*[slice(None)] * first, *index)]

    found = gathered(f, axes, index)
    assert_maps(found, choice, f)
    gradient = made(np.random.default_rng(2), found.cuts, found.groups)

    def adjoint(y):
        x = np.zeros(f.shape)
        np.add.at(x, (*[slice(None)] * first, *index), y)
        return x

    assert_maps(scattered(gradient, axes, index, sizes), adjoint, gradient)


def test_long_indices_are_looked_at_here_and_there():
    f = made(np.random.default_rng(1), ((50, 30),), (1,))
    index = [np.random.default_rng(2).integers(0, 80, 1500)]
    exact = np.bincount(index[0], minlength=80)
    found = gathered(f, (0,), index)
    second, mean = written_out(f)
    np.testing.assert_allclose(found.energy, np.diag(second) @ exact / 1500, rtol=0.02)
    np.testing.assert_allclose(found.average, mean @ exact / 1500, rtol=0.02)
    gradient = found.like(found.second - found.products())
    back = scattered(gradient, (0,), index, (80,))
    assert back.shape == (80,)
    share = np.square(exact).sum() / 1500
    other = gradient.second[1:].min()
    assert 0.5 * share * other < back.energy < 40 * gradient.energy * share


@given(fields((1, 3)), st.data())
def test_repeated(f, data):
    axis, times = data.draw(st.integers(0, len(f.groups) - 1)), data.draw(st.integers(1, 3))
    found = repeated(f, axis, times)
    assert_maps(found, lambda x: x.repeat(times, axis), f)
    gradient = made(np.random.default_rng(2), found.cuts, found.groups)
    shape = (*f.shape[: axis + 1], times, *f.shape[axis + 1 :])
    back = repeats_summed(gradient, axis, times)
    assert_maps(back, lambda x: x.reshape(shape).sum(axis + 1), gradient)


@st.composite
def broadcastable(draw):
    """Two fields that broadcast against each other."""
    cuts, groups = draw(layouts((1, 3), 40))
    result = []
    for _ in range(2):
        kept, numbers, at = [], [], 0
        for number in groups:
            own = list(cuts[at : at + number])
            at += number
            way = draw(st.sampled_from(["as it is", "recut", "one", "merged"]))
            if way == "one":
                own = []
            elif way == "merged" and own:
                own = [draw(cuts_of(int(np.prod([sum(cut) for cut in own]))))]
            elif way == "recut":
                own = [draw(cuts_of(sum(cut))) for cut in own]
            kept += own
            numbers.append(len(own))
        skip = 0
        while skip < len(numbers) - 1 and numbers[skip] == 0 and draw(st.booleans()):
            skip += 1
        rng = np.random.default_rng(draw(st.integers(0, 999)))
        result.append(made(rng, tuple(kept), tuple(numbers[skip:])))
    return result


@given(broadcastable())
def test_aligned(both):
    shape = np.broadcast_shapes(*(f.shape for f in both))
    found = aligned(*both)
    assert found[0].cuts == found[1].cuts
    assert found[0].groups == found[1].groups
    for one, f in zip(found, both, strict=True):
        places = [cut for cut in f.cuts if len(cut) > 1]
        assert one.shape == shape
        wide = f.expanded(shape)
        if len(one.cuts) >= len(wide.cuts) and not places:
            assert_maps(one, lambda x: np.broadcast_to(x, shape), f)
        assert_sound(one)
        for part_of, whole in zip(totals(one), totals(wide), strict=True):
            np.testing.assert_allclose(part_of, whole)


@given(layouts(several=False, lines=True), st.integers(0, 99))
def test_empirical(layout, seed):
    cuts, groups = layout
    f = made(np.random.default_rng(seed), cuts, groups)
    values = np.random.default_rng(seed).normal(size=f.shape) + 1
    found = empirical(values, f.cuts)
    assert found.shape == values.shape
    assert_moments(found, np.outer(values, values), values.ravel())


def test_fields_of_numbers():
    f = independent((3, 1, 5), 2.0, 7.0)
    assert f.shape == (3, 1, 5)
    assert_moments(f, np.full((15, 15), 4.0) + 7 * np.eye(15), np.full(15, 2.0))
    assert_moments(constant((2, 3), -1.5), np.full((6, 6), 2.25), np.full(6, -1.5))
    assert scalar(3.0).energy == 9.0
    assert scalar(3.0).shape == ()


@st.composite
def in_a_row(draw):
    """Fields that agree on all axes but one, and that axis."""
    cuts, groups = draw(layouts((1, 3), 16))
    axis = draw(st.integers(0, len(groups) - 1))
    result = []
    for _ in range(draw(st.integers(1, 3))):
        kept, at = [], 0
        for place, number in enumerate(groups):
            own = [draw(cuts_of(sum(cut))) for cut in cuts[at : at + number]]
            at += number
            if place == axis:
                length = draw(st.integers(1, 3))
                own = [] if length == 1 else [draw(cuts_of(length))]
            kept.append(own)
        rng = np.random.default_rng(draw(st.integers(0, 999)))
        result.append(made(rng, list(chain(*kept)), [len(own) for own in kept]))
    return result, axis


@given(in_a_row())
def test_joined(case):
    parts, axis = case
    moments = [written_out(f) for f in parts]
    whole = np.outer(*[np.concatenate([mean for _, mean in moments])] * 2)
    at = 0
    for second, mean in moments:
        whole[at : at + len(mean), at : at + len(mean)] = second
        at += len(mean)
    order = np.concatenate(
        [
            np.arange(len(m)).reshape(f.shape) + s
            for m, f, s in zip(
                [m for _, m in moments],
                parts,
                np.cumsum([0, *(len(m) for _, m in moments)])[:-1],
                strict=True,
            )
        ],
        axis,
    ).ravel()
    means = np.concatenate([mean for _, mean in moments])
    assert_moments(joined(parts, axis), whole[np.ix_(order, order)], means[order])


def test_known_numbers_in_given_classes_are_read_again_when_they_change():
    known, value = Constants(), torch.arange(12.0).reshape(3, 4)
    one, two = (known.of(value.t(), ((2, 2), (3,))) for _ in range(2))
    assert one is not two
    assert one.second is two.second
    value += 1.0
    assert known.of(value.t(), ((2, 2), (3,))).average == one.average + 1.0


def test_two_samples_that_are_divided_by_what_the_same_weights_made():
    """A unit's mean m over places, in all samples: E m^2 / (s s') is less than E m^2 / E s^2."""
    places, shared, draws = 12, 1.0, 60_000
    cuts = ((3,), (5,), (places,))
    second = np.zeros((2, 2, 2))
    second[:, 0, :] = shared
    second[0, 0, 0] += 1.0
    f = Field(second, cuts, (1, 1, 1), np.zeros((1, 1, 1)))
    plain = second / (1 + shared)
    change, _ = fluctuating(f, plain, (2,))
    generator = np.random.default_rng(3)
    unit = generator.normal(size=(draws, 1, 1)) * shared**0.5
    x = unit + generator.normal(size=(draws, 2, places))
    x /= np.sqrt(np.square(x).mean(-1, keepdims=True))
    found = (x[:, 0].mean(-1) * x[:, 1].mean(-1)).mean()
    assert (plain + change)[1, 0].mean() == pytest.approx(found, rel=0.04)
    assert plain[1, 0].mean() > 1.1 * found
