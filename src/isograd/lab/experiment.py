"""What an experiment is: a question, settings, a run, a figure, and numbers that must come out."""

import inspect
import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

from isograd.catalogue import field_texts
from isograd.errors import InputError
from isograd.lab.expected import Expected

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from isograd.lab.bench import Bench
    from isograd.lab.result import Result

SCALES = ("fast", "standard", "full")
"""fast: seconds, on bundled data; standard: what the fields say; full: for a GPU."""

Verdict = Literal["true", "imprecise", "wrong"]


@dataclass(frozen=True)
class Answer:
    """What an experiment says of one claim, and the numbers that make it say so."""

    claim: str
    """Its id in `isograd.lab.claims`, such as `S0.12`."""
    verdict: Verdict
    statement: str = ""
    """What is right, where the claim is imprecise or wrong; a remark, where it is true."""
    expected: tuple[Expected, ...] = ()


@dataclass(frozen=True)
class Measured:
    """What a run brings: numbers to be judged, and the series and words that the figure needs."""

    numbers: Mapping[str, Any]
    """Numbers, or tensors of one number, by name; one that ends in `_theory` is a prediction."""
    series: Mapping[str, Any] = field(default_factory=dict)
    """Lists, nested lists and mappings of numbers and words; tensors and arrays become lists."""


class Experiment(ABC):
    """One experiment: a frozen dataclass whose fields are its settings, each with its text.

    The first line of the file's docstring is the question. The paragraphs below say what is done
    and what comes out; the page of the experiment shows them.
    """

    code: ClassVar[str]
    """Its name: that of its file, with hyphens."""
    data: ClassVar[tuple[str, ...]] = ()
    """Data sets that can show it, the preferred one first; the last one comes with scikit-learn.
    Empty where no data set is needed."""
    scales: ClassVar[Mapping[str, Mapping[str, Any]]] = {}
    """Settings of the scales `fast` and `full` that differ from the fields' own values."""
    answers: ClassVar[tuple[Answer, ...]]
    """One per claim that it tests."""

    @abstractmethod
    def run(self, bench: "Bench") -> Measured:
        """Does the experiment; equal benches bring equal numbers."""

    @abstractmethod
    def figure(self, result: "Result") -> "Figure":
        """Draws a result, and nothing that is not in it; the title states the finding."""

    @classmethod
    def question(cls) -> str:
        """First line of the file's docstring."""
        return _text(cls).partition("\n")[0]

    @classmethod
    def about(cls) -> str:
        """The file's docstring below its first line."""
        return _text(cls).partition("\n")[2].strip()

    @classmethod
    def settings_help(cls) -> dict[str, str]:
        """Text of every setting."""
        return field_texts(cls)

    def settings(self) -> dict[str, Any]:
        """Value of every setting."""
        return {one.name: getattr(self, one.name) for one in fields(self)}  # type: ignore[arg-type]  # subclasses are dataclasses

    def at(self, scale: str) -> Self:
        """The experiment with the settings of a scale.

        Raises:
            InputError: it has no such scale.
        """
        if scale not in SCALES or (scale == "full" and "full" not in self.scales):
            known = [name for name in SCALES if name != "full" or "full" in self.scales]
            raise InputError(f"{self.code} has no scale {scale!r}; there is {', '.join(known)}")
        return replace(self, **self.scales.get(scale, {}))  # type: ignore[type-var]  # as above

    def given(self, settings: Mapping[str, Any]) -> Self:
        """The experiment with the settings that a result tells."""
        values = {k: tuple(v) if isinstance(v, list) else v for k, v in settings.items()}
        return replace(self, **values)  # type: ignore[type-var]  # as above

    def expected(self) -> list[tuple[Answer, Expected]]:
        """Every expected number with the answer it belongs to."""
        return [(answer, one) for answer in self.answers for one in answer.expected]


def _text(kind: type) -> str:
    return inspect.cleandoc(sys.modules[kind.__module__].__doc__ or "")
