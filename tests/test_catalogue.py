"""A catalogue: the files of a folder are its entries, and a broken folder is told."""

import importlib
import sys
from collections.abc import Callable, Iterator
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import pytest

from isograd.catalogue import Catalogue
from isograd.errors import CatalogueError

BASE = "class Kind:\n    pass\n"
ENTRY = "from {package}._kind import Kind\n\nclass {name}(Kind):\n    code = {code!r}\n"

Make = Callable[..., Catalogue[Any]]


@pytest.fixture
def make(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Writes a package of entries and gives its catalogue; foreign ones by entry point."""
    package = f"made_{tmp_path.name}"
    folder = tmp_path / package
    folder.mkdir()
    (folder / "__init__.py").touch()
    (folder / "_kind.py").write_text(BASE)
    monkeypatch.syspath_prepend(str(tmp_path))

    def build(foreign: tuple[str, ...] = (), /, **files: str) -> Catalogue[Any]:
        for name, source in files.items():
            (folder / f"{name}.py").write_text(source.replace("{package}", package))
        importlib.invalidate_caches()
        points = [EntryPoint(value, f"{package}.{value}", package) for value in foreign]
        monkeypatch.setattr(
            importlib.metadata,
            "entry_points",
            lambda *, group: points if group == package else [],
        )
        kind = importlib.import_module(f"{package}._kind").Kind
        return Catalogue(package, kind)

    yield build
    for name in [name for name in sys.modules if name.split(".")[0] == package]:
        del sys.modules[name]


def entry(name: str, code: str) -> str:
    return ENTRY.replace("{name}", name).replace("{code!r}", repr(code))


def test_a_file_is_an_entry(make: Make) -> None:
    catalogue = make(b=entry("B", "K2"), a=entry("A", "K3"), c=entry("C", "K1"))
    assert [one.code for one in catalogue] == ["K1", "K2", "K3"]  # by code, not by file
    assert len(catalogue) == 3
    assert "K2" in catalogue
    assert "K4" not in catalogue
    assert None not in catalogue
    assert type(catalogue["K3"]).__name__ == "A"
    assert catalogue["K3"] is catalogue["K3"]


def test_what_begins_with_an_underscore_is_none(make: Make) -> None:
    assert len(make(_a=entry("A", "K1"), b=entry("B", "K2"))) == 1


def test_what_an_entry_imports_does_not_count(make: Make) -> None:
    second = "from {package}.a import A\n" + entry("B", "K2") + "\nOTHER = A\n"
    assert len(make(a=entry("A", "K1"), b=second)) == 2


def test_an_empty_folder(make: Make) -> None:
    catalogue = make()
    assert len(catalogue) == 0
    assert list(catalogue) == []


def test_nothing_is_loaded_before_it_is_asked_for(make: Make) -> None:
    catalogue = make(a="raise RuntimeError('loaded')")
    with pytest.raises(RuntimeError, match="loaded"):
        len(catalogue)


@pytest.mark.parametrize(
    ("source", "count"),
    [
        (entry("A", "K1") + "\nclass B(Kind):\n    code = 'K2'\n", 2),
        ("from {package}._kind import Kind\n", 0),
        ("class A:\n    code = 'K1'\n", 0),
    ],
)
def test_a_file_defines_exactly_one(make: Make, source: str, count: int) -> None:
    pattern = rf"\.a defines {count} subclasses of Kind; a catalogue file defines exactly one"
    with pytest.raises(CatalogueError, match=pattern):
        len(make(a=source))


def test_a_code_is_given_once(make: Make) -> None:
    catalogue = make(a=entry("A", "K1"), b=entry("B", "K1"))
    with pytest.raises(CatalogueError, match=r"\.b uses the code 'K1', which .*\.a has already"):
        list(catalogue)


def test_an_unknown_code(make: Make) -> None:
    catalogue = make(a=entry("A", "K1"), b=entry("B", "K2"))
    with pytest.raises(CatalogueError, match="unknown code 'K9'; known codes: K1, K2"):
        catalogue["K9"]


def test_a_third_partys_entry(make: Make) -> None:
    catalogue = make(("_theirs:T",), a=entry("A", "K2"), _theirs=entry("T", "K1"))
    assert [one.code for one in catalogue] == ["K1", "K2"]
    assert type(catalogue["K1"]).__name__ == "T"


def test_a_third_party_may_not_take_a_code(make: Make) -> None:
    catalogue = make(("_theirs:T",), a=entry("A", "K1"), _theirs=entry("T", "K1"))
    with pytest.raises(CatalogueError, match=r"_theirs:T uses the code 'K1', which .*\.a has"):
        list(catalogue)


def test_a_third_partys_entry_of_a_wrong_kind(make: Make) -> None:
    catalogue = make(("_theirs:T",), _theirs="class T:\n    code = 'K1'\n")
    with pytest.raises(CatalogueError, match=r"entry point '.*_theirs:T' in group .* is a T, not"):
        list(catalogue)


@pytest.mark.parametrize(
    ("source", "what"),
    [
        ("raise ImportError('no such thing')", "ImportError: no such thing"),
        ("X = 1", "AttributeError"),
        (
            "from {package}._kind import Kind\n"
            "class T(Kind):\n    def __init__(self, needed):\n        pass\n",
            "TypeError",
        ),
    ],
)
def test_a_third_partys_entry_that_cannot_be_loaded(make: Make, source: str, what: str) -> None:
    catalogue = make(("_theirs:T",), _theirs=source)
    pattern = rf"entry point '.*_theirs:T' in group .* cannot be loaded: {what}"
    with pytest.raises(CatalogueError, match=pattern):
        list(catalogue)
