"""A catalogue: a folder in which every public file is one entry, plus third parties' entry points.

Adding the file is the registration. A file whose name begins with an underscore is not an entry.
"""

import ast
import importlib
import importlib.metadata
import inspect
import itertools
import pkgutil
import re
import textwrap
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import Generic, Protocol, TypeVar

from isograd.errors import CatalogueError


class Entry(Protocol):
    """What every entry has: the key under which it is found."""

    @property
    def code(self) -> str:
        """The entry's unique key, such as `IG101` or `relu`."""


T = TypeVar("T", bound=Entry)


class Catalogue(Generic[T]):
    """The entries of one package, loaded at first use and ordered by `code`.

    Each entry module defines exactly one concrete subclass of `kind`, which is instantiated
    without arguments. Third parties add classes through the entry-point group named `package`.

    Args:
        package: dotted name of the package whose public modules are the entries.
        kind: the class whose subclasses are entries.
    """

    def __init__(self, package: str, kind: type[T]) -> None:
        self.package = package
        self.kind = kind

    @cached_property
    def _entries(self) -> dict[str, T]:
        entries: dict[str, T] = {}
        for where, entry in (*self._own(), *self._foreign()):
            if entry.code in entries:
                raise CatalogueError(
                    f"{self.package}: {where} uses the code {entry.code!r}, which "
                    f"{type(entries[entry.code]).__module__} has already; give it another"
                )
            entries[entry.code] = entry
        return dict(sorted(entries.items()))

    def _own(self) -> Iterator[tuple[str, T]]:
        package = importlib.import_module(self.package)
        for info in pkgutil.iter_modules(package.__path__):
            if info.name.startswith("_"):
                continue
            module = importlib.import_module(f"{self.package}.{info.name}")
            found = [
                value
                for value in vars(module).values()
                if isinstance(value, type)
                and issubclass(value, self.kind)
                and value.__module__ == module.__name__
            ]
            if len(found) != 1:
                raise CatalogueError(
                    f"{module.__name__} defines {len(found)} subclasses of "
                    f"{self.kind.__name__}; a catalogue file defines exactly one"
                )
            yield module.__name__, found[0]()

    def _foreign(self) -> Iterator[tuple[str, T]]:
        for point in importlib.metadata.entry_points(group=self.package):
            try:
                entry = point.load()()
            except Exception as error:  # whatever a third party's module raises
                raise CatalogueError(
                    f"entry point {point.value!r} in group {self.package!r} cannot be loaded: "
                    f"{type(error).__name__}: {error}; repair or uninstall the package it is from"
                ) from error
            if not isinstance(entry, self.kind):
                raise CatalogueError(
                    f"entry point {point.value!r} in group {self.package!r} is a "
                    f"{type(entry).__name__}, not a {self.kind.__name__}"
                )
            yield point.value, entry

    def __getitem__(self, code: str) -> T:
        try:
            return self._entries[code]
        except KeyError:
            known = ", ".join(self._entries)
            raise CatalogueError(f"unknown code {code!r}; known codes: {known}") from None

    def __iter__(self) -> Iterator[T]:
        return iter(self._entries.values())

    def __len__(self) -> int:
        return len(self._entries)

    def __contains__(self, code: object) -> bool:
        return code in self._entries


def title_of(kind: type) -> str:
    """First line of a class's docstring, without its period."""
    return inspect.cleandoc(kind.__doc__ or "").splitlines()[0].rstrip(".")


def sections_of(kind: type, headings: Sequence[str]) -> dict[str, str]:
    """The text of a class's docstring under each of the headings, line breaks removed."""
    text = inspect.cleandoc(kind.__doc__ or "")
    parts = re.split(rf"^({'|'.join(headings)}):\s*", text, flags=re.MULTILINE)
    return {
        heading: " ".join(body.split())
        for heading, body in zip(parts[1::2], parts[2::2], strict=True)
    }


def field_texts(kind: type) -> dict[str, str]:
    """The strings below the annotated fields of a class, line breaks removed, by field."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(kind))).body
    assert isinstance(definition, ast.ClassDef)
    texts: dict[str, str] = {}
    for line, below in itertools.pairwise(definition.body):
        if isinstance(line, ast.AnnAssign) and isinstance(below, ast.Expr):
            text = below.value.value if isinstance(below.value, ast.Constant) else ""
            texts[ast.unparse(line.target)] = " ".join(str(text).split())
    return texts
