"""Changes: what a variant of a network does differently, from words; read without torch."""

from collections.abc import Iterable
from dataclasses import dataclass
from difflib import get_close_matches

from isograd.errors import InputError

INITS = {
    "critical": "",
    "kaiming_normal": "negative slope",
    "kaiming_uniform": "negative slope",
    "lecun": "gain",
    "normal": "standard deviation",
    "orthogonal": "gain",
    "trunc_normal": "standard deviation",
    "uniform": "bound",
    "xavier_normal": "gain",
    "xavier_uniform": "gain",
    "zeros": "",
}
"""Initializations, and what a number behind a colon means."""
ACTIVATIONS = (
    "celu elu gelu hardshrink hardsigmoid hardswish hardtanh leaky_relu logsigmoid mish prelu relu "
    "relu6 rrelu selu sigmoid silu softplus softshrink softsign tanh tanhshrink"
).split()


@dataclass(frozen=True)
class Choice:
    """What is used in the places that a pattern names."""

    name: str
    number: float | None = None
    pattern: str = "*"
    """Of paths of modules or names of parameters, as in a shell."""


@dataclass(frozen=True)
class Change:
    """What a variant does differently; nothing where left out."""

    init: tuple[Choice, ...] = ()
    activation: tuple[Choice, ...] = ()
    residual_scale: float | None = None


def inits(words: Iterable[str]) -> tuple[Choice, ...]:
    """Initializations from words such as `kaiming_normal`, `normal:0.02`, `head=zeros`.

    Raises:
        InputError: a word that is none.
    """
    return tuple(_choice("--init", word, tuple(INITS)) for word in words)


def activations(words: Iterable[str]) -> tuple[Choice, ...]:
    """Activations from words such as `gelu` and `blocks.*=silu`.

    Raises:
        InputError: a word that is none.
    """
    return tuple(_choice("--activation", word, tuple(ACTIVATIONS)) for word in words)


def _choice(option: str, word: str, known: tuple[str, ...]) -> Choice:
    pattern, equals, rest = word.rpartition("=")
    name, colon, text = rest.partition(":")
    name = name.strip().lower().removesuffix("_")
    if name not in known:
        close = get_close_matches(name, known, n=3)
        told = f"did you mean {' or '.join(close)}" if close else f"there is {', '.join(known)}"
        raise InputError(f"{option}: no {name!r}; {told}")
    if equals and not pattern:
        raise InputError(f"{option}: {word!r} has no pattern in front of =; write blocks.*={rest}")
    number = None
    if colon:
        number = _number(text)
        if number is None or not INITS.get(name):
            wanted = f"a number, its {INITS[name]}" if INITS.get(name) else "no number"
            raise InputError(f"{option}: {rest!r}: {name} takes {wanted}")
    return Choice(name, number, pattern or "*")


def _number(text: str) -> float | None:
    try:
        found = float(text)
    except ValueError:
        return None
    return found if 0 <= found < float("inf") else None
