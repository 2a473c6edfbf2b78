"""A number that must come out of an experiment, how near, and why no nearer."""

import math
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Expected:
    """Bounds of one number of a result. Made by `near`, `exactly`, `above`, `below`, `between`."""

    number: str
    """Its name in `Measured.numbers`."""
    why: str
    """Where the value comes from, and the reason of the tolerance."""
    value: float | str | None = None
    """What it should be: a number, or the name of another number of the result (a prediction)."""
    rel: float = 0.0
    """Tolerance around `value`, as a share of it."""
    abs: float = 0.0
    """Tolerance around `value`."""
    low: float | str = -math.inf
    high: float | str = math.inf
    at: tuple[str, ...] = ()
    """Scales it holds at; empty for all."""
    on: tuple[str, ...] = ()
    """Data sets it holds on; empty for all."""

    def applies(self, scale: str, data: str | None) -> bool:
        """Whether it says something of a result of this scale on this data set."""
        return (not self.at or scale in self.at) and (not self.on or data in self.on)

    def bounds(self, numbers: Mapping[str, float]) -> tuple[float, float]:
        """Lowest and highest number that meets it."""
        if self.value is None:
            return _named(self.low, numbers), _named(self.high, numbers)
        value = _named(self.value, numbers)
        if math.isinf(value):
            return value, value
        slack = max(self.rel * abs(value), self.abs)
        return value - slack, value + slack

    def met(self, numbers: Mapping[str, float]) -> bool:
        """Whether the number is there and within its bounds; a NaN never is."""
        low, high = self.bounds(numbers)
        return low <= numbers.get(self.number, math.nan) <= high

    def words(self, numbers: Mapping[str, float]) -> str:
        """The bounds as a reader wants them: `3325.26 ± 0.1 %`, `> 0.92`."""
        low, high = self.bounds(numbers)
        if self.value is not None:
            theory = " (predicted)" if isinstance(self.value, str) else ""
            slack = f" ± {self.abs:.3g}" if self.abs else f" ± {100 * self.rel:.3g} %"
            return f"{_named(self.value, numbers):.6g}{slack if high > low else ''}{theory}"
        if math.isinf(high):
            return f"≥ {low:.6g}"
        if math.isinf(low):
            return f"≤ {high:.6g}"
        return f"{low:.6g} to {high:.6g}"


def near(
    number: str,
    value: float | str,
    why: str,
    *,
    rel: float = 0.0,
    abs: float = 0.0,  # noqa: A002  # as in math.isclose and pytest.approx
    at: tuple[str, ...] = (),
    on: tuple[str, ...] = (),
) -> Expected:
    """`value`, or the number of that name, within the larger of two tolerances."""
    return Expected(number, why, value=value, rel=rel, abs=abs, at=at, on=on)


def exactly(
    number: str, value: float | str, why: str, *, at: tuple[str, ...] = (), on: tuple[str, ...] = ()
) -> Expected:
    """`value`, with no tolerance at all."""
    return Expected(number, why, value=value, at=at, on=on)


def above(
    number: str, low: float | str, why: str, *, at: tuple[str, ...] = (), on: tuple[str, ...] = ()
) -> Expected:
    """At least `low`."""
    return Expected(number, why, low=low, at=at, on=on)


def below(
    number: str, high: float | str, why: str, *, at: tuple[str, ...] = (), on: tuple[str, ...] = ()
) -> Expected:
    """At most `high`."""
    return Expected(number, why, high=high, at=at, on=on)


def between(
    number: str,
    low: float | str,
    high: float | str,
    why: str,
    *,
    at: tuple[str, ...] = (),
    on: tuple[str, ...] = (),
) -> Expected:
    """From `low` to `high`."""
    return Expected(number, why, low=low, high=high, at=at, on=on)


def _named(bound: float | str, numbers: Mapping[str, float]) -> float:
    return numbers.get(bound, math.nan) if isinstance(bound, str) else bound
