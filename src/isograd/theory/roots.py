"""Roots: one equation in one unknown, always with a bracket and an end."""

from collections.abc import Callable

_MAX_STEPS = 200


def root(f: Callable[[float], float], low: float, high: float) -> float:
    """A root of f between two arguments at which its signs differ, to rounding.

    Chandrupatla's method (A new hybrid quadratic/bisection algorithm, 1997): inverse quadratic
    interpolation where that is safe, bisection elsewhere.
    """
    a, b = low, high
    f_a, f_b = f(a), f(b)
    c, f_c = a, f_a
    share = 0.5
    for _ in range(_MAX_STEPS):
        best, f_best = (a, f_a) if abs(f_a) < abs(f_b) else (b, f_b)
        least = 4e-16 * abs(best) / max(abs(b - a), 5e-324)
        if f_best == 0 or least >= 0.5:
            return best
        at = a + min(max(share, least), 1 - least) * (b - a)
        f_at = f(at)
        if (f_at > 0) == (f_a > 0):
            c, f_c = a, f_a
        else:
            c, f_c, b, f_b = b, f_b, a, f_a
        a, f_a = at, f_at
        share = _share(a, b, c, f_a, f_b, f_c)
    return best


def _share(a: float, b: float, c: float, f_a: float, f_b: float, f_c: float) -> float:
    """The share of the way from a to b at which to look next."""
    if len({f_a, f_b, f_c}) < 3:
        return 0.5
    place, height = (a - b) / (c - b), (f_a - f_b) / (f_c - f_b)
    if not (height * height < place and (1 - height) ** 2 < 1 - place):
        return 0.5
    return f_a / (f_b - f_a) * f_c / (f_b - f_c) + (c - a) / (b - a) * f_a / (f_c - f_a) * f_b / (
        f_c - f_b
    )
