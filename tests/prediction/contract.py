"""The contract of every operation: its rule against the operation itself, run on many draws.

Inputs, weights and the gradient of the output are drawn anew and independently each time, in
float64; the moments of output and gradients are counted for every kind of pair.
"""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from covariances import averaged, made, written_out
from torch.nn import functional

from isograd.prediction.moments import pairs
from isograd.prediction.moments.aligning import aligned
from isograd.prediction.moments.known import independent
from isograd.prediction.moments.sums import summed
from isograd.prediction.propagation import Propagation

BLOCKS, DRAWS = 32, 96
"""Moments are counted per block of draws; their spread over blocks gives the standard error."""
SIGMAS = 6.0
"""With 31 degrees of freedom one comparison in a million is farther off by chance."""
WEIGHT = (0.3, 0.7)
"""Mean and variance of a weight."""
KINDS = ("plain", "classes", "function")
"""Of input fields: one class an axis, several on one axis, a function of a Gaussian field."""
LINES = (*KINDS, "lines")
"""And spatial axes that tell near from far."""


@dataclass(frozen=True)
class Example:
    """One call of an operation."""

    function: Callable
    """Of the inputs, then the weights; a tensor or several out."""
    inputs: tuple
    """Shapes of the inputs."""
    weights: tuple = ()
    """Shapes of the weights, whose entries are independent."""
    slack: float = 0.0
    """What the rule may be off by forward, as a share of the output's energy."""
    back_slack: float = 0.0
    """Likewise backward, as a share of the gradient's energy."""
    weight_slack: float | None = 0.0
    """Likewise for gradients of weights; None: their energy alone is compared, exactly."""
    linear: str = ""
    """`jointly` or `each`: whether it is linear in all inputs together, or in each of them."""
    kinds: tuple = KINDS
    """Of input fields for which the rule is to hold."""
    diverse: bool = False
    """Whether most of an entry is its own: for rules of statistics that settle with the size."""
    shift: float = 0.0
    """Added to the inputs' means: for functions of positive numbers."""
    vectorized: bool = True
    """Whether torch.func.vmap takes it."""


class Trial:
    """An example on random fields: what the rules say, and what the draws say."""

    def __init__(self, example, kind, *, centered=False):
        self.example, self.kind = example, kind
        self.rng = np.random.default_rng(len(kind))
        self.run = Propagation()
        self.fields = [self._random(s, example.shift, centered) for s in example.inputs]
        self.laws = [independent(shape, *WEIGHT) for shape in example.weights]
        drawn = [self.run.abstract(f) for f in [*self.fields, *self.laws]]
        with torch.no_grad(), self.run:
            self.given = [self.before(x) for x in drawn[: len(self.fields)]]
            result = example.function(*self.given, *drawn[len(self.fields) :])
            self.given_fields = [self.run.field_of(x) for x in self.given]
        self.results = as_list(result)
        self.outs = [self.run.field_of(one) for one in self.results]
        self.probes = [self._random(f.shape, 0.0, centered=True) for f in self.outs]

    def _random(self, shape, shift, centered):
        f = made(self.rng, *self._layout(shape))
        if self.kind == "lines":  # averages by distance need not be moments of anything
            second, mean = written_out(f)
            low = float(np.linalg.eigvalsh(second - np.outer(mean, mean))[0])
            f.second[tuple(slice(0, len(cut)) for cut in f.cuts)] += max(-low, 0.0)
        if self.example.diverse:
            f = summed(f.scaled(0.3), independent(shape, 0.0, 1.0))
        if not centered and not shift:
            return f
        covariance = f.second - f.products()
        if centered:
            return f.like(covariance)
        f.mean = 0.2 * f.mean + shift
        f.second = 0.05 * covariance + f.products()
        return f

    def _layout(self, shape):
        sizes = [size for size in shape if size > 1]
        cuts = [(size,) for size in sizes]
        wide = [place for place, size in enumerate(sizes) if size >= 3]
        if self.kind == "classes" and wide:
            place = int(self.rng.choice(wide))
            size = sizes[place]
            cuts[place] = (1, 3, size - 4) if size > 4 else (1, size - 1)
        if self.kind == "lines":
            at = [sum(n > 1 for n in shape[:axis]) for axis, n in enumerate(shape) if n > 2]
            at = [place for place in at if place >= 2]
            for place, line in zip(at, (pairs.Mirror, pairs.Line, pairs.Mirror), strict=False):
                end = 2 if line is pairs.Mirror else 1
                cuts[place] = line((end, sizes[place] - end))
        return tuple(cuts), tuple(int(size > 1) for size in shape)

    def before(self, x):
        """The input of the example, from the drawn one."""
        return functional.relu(x) if self.kind == "function" else x

    # -- what the draws say ---------------------------------------------------------------------

    @property
    def draws(self):
        """How often everything is drawn."""
        return BLOCKS * (DRAWS if self.example.vectorized else DRAWS // 8)

    def _values(self):
        """Draws of inputs, weights and probes, each (draws, *shape)."""
        result = []
        for f in [*self.fields, *self.laws, *self.probes]:
            second, mean = written_out(f)
            values, vectors = np.linalg.eigh(second - np.outer(mean, mean))
            root = vectors * np.sqrt(np.maximum(values, 0.0))
            z = self.rng.normal(size=(self.draws, len(mean)))
            result.append(torch.from_numpy(z @ root.T + mean).reshape(-1, *f.shape))
        return result

    def _once(self, *values):
        """Outputs; gradients of inputs as drawn, of inputs as given, and of weights."""
        n, m = len(self.fields), len(self.laws)
        inputs, weights, probes = values[:n], values[n : n + m], values[n + m :]

        def forward(drawn, moves, weights):
            given = [self.before(x) + move for x, move in zip(drawn, moves, strict=True)]
            return tuple(as_list(self.example.function(*given, *weights)))

        moves = tuple(torch.zeros_like(x) for x in inputs)
        if not self.differentiable:
            return forward(inputs, moves, weights), ((), (), ())
        outs, pull = torch.func.vjp(forward, inputs, moves, weights)
        kept = tuple(p if o.is_floating_point() else o for p, o in zip(probes, outs, strict=True))
        return outs, pull(kept)

    @property
    def differentiable(self):
        """Whether a gradient passes at all."""
        return all(step.back is not None for step in self.run.steps) and all(
            one.is_floating_point() for one in self.results
        )

    @cached_property
    def drawn(self):
        """As `_once`, with all draws as the first axis."""
        values = self._values()
        with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # vmap: of operations that it takes one by one
            torch.manual_seed(0)
            if self.example.vectorized:
                return torch.func.vmap(self._once, randomness="different")(*values)
            rows = [self._once(*row) for row in zip(*values, strict=True)]
        return torch.utils._pytree.tree_map(lambda *x: torch.stack(x), *rows)

    # -- the comparison -------------------------------------------------------------------------

    def check(self):
        """Shapes, types, output and gradients."""
        self.check_form()
        outs, (drawn, given, weights) = self.drawn
        slack, back = self.example.slack, self.example.back_slack
        for n, (found, values) in enumerate(zip(self.outs, outs, strict=True)):
            compare(found, values, slack, f"output {n}")
        if not self.differentiable:
            return
        self.run.backward(list(zip(self.outs, self.probes, strict=True)))
        for n, values in enumerate(drawn):
            compare(self._gradient(self.fields[n]), values, back, f"gradient of input {n}")
            gradient = self._gradient(self.given_fields[n])
            compare(gradient, given[n], back, f"gradient of input {n} as given")
        for n, values in enumerate(weights):
            gradient, slack = self._gradient(self.laws[n]), self.example.weight_slack
            compare(
                gradient, values, slack or 0.0, f"gradient of weight {n}", whole=slack is not None
            )

    def _gradient(self, f):
        found = self.run.gradient_of(f)
        assert found is not None, "no gradient arrived"
        assert found.shape == f.shape
        return found

    def check_form(self):
        """The output is what torch gives: shapes and types."""
        shapes = (*self.example.inputs, *self.example.weights)
        real = self.example.function(*(torch.ones(shape) for shape in shapes))
        for one, other, f in zip(as_list(real), self.results, self.outs, strict=True):
            assert tuple(other.shape) == tuple(one.shape) == f.shape
            assert other.dtype == one.dtype

    def check_adjoint(self):
        """E (g y)^2 is the same at both ends of a linear operation."""
        self.run.backward(list(zip(self.outs, self.probes, strict=True)))
        after = sum(paired(g, f) for g, f in zip(self.probes, self.outs, strict=True))
        before = [paired(self._gradient(f), f) for f in self.fields]
        wanted = [sum(before)] if self.example.linear == "jointly" else before
        np.testing.assert_allclose(wanted, after, rtol=1e-9)


def as_list(result):
    """The outputs of an operation, real numbers or truth values."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def paired(first, second):
    """Sum over all pairs of entries of the product of two fields' second moments."""
    a, b = aligned(first, second)
    product = a.second * b.second
    for place in reversed(range(product.ndim)):
        product = np.tensordot(product, pairs.counts(a.cuts[place]), (place, 0))
    return float(product)


def compare(found, values, slack, what, *, whole=True):
    """A field agrees with values (draws, *shape): every kind of pair, and every mean."""
    flat = values.detach().double().reshape(BLOCKS, len(values) // BLOCKS, -1).numpy(force=True)
    assert np.isfinite(flat).all()
    assert np.isfinite(found.second).all()
    covariances = np.matmul(flat.transpose(0, 2, 1), flat) / flat.shape[1]
    means = flat.mean(axis=1)
    second, mean = averaged(np.moveaxis(covariances, 0, -1), means.T, found.cuts)
    energy = np.square(flat).mean()
    if not whole:
        found_energy = np.array(found.energy)
        return _agrees(found_energy, np.square(flat).mean(axis=(1, 2)), slack * energy, what)
    _agrees(found.second, second, slack * energy, f"second moments of {what}")
    if not what.startswith("gradient"):
        _agrees(found.mean, mean, slack * np.sqrt(energy), f"mean of {what}")
    return None


def _agrees(found, each, slack, what):
    center, error = each.mean(axis=0), each.std(axis=0, ddof=1) / np.sqrt(len(each))
    allowed = SIGMAS * error + slack + 1e-9 * (np.abs(center).max(initial=0.0) + 1e-12)
    off = np.abs(found - center) - allowed
    if (off > 0).any():
        at = np.unravel_index(np.argmax(off), off.shape)
        raise AssertionError(
            f"{what}, pair {tuple(int(i) for i in at)}: {found[at]:.6g} by the rule, "
            f"{center[at]:.6g} +- {error[at]:.2g} by draws\n"
            f"by the rule:\n{np.round(found, 4)}\nby draws:\n{np.round(center, 4)}"
        )
