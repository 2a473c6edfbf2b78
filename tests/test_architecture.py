"""The house: which room may import which, and how free an import is.

The table is the one place where the floors are written down; changing it needs a decision.
"""

import ast
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

SOURCE = Path(__file__).parent.parent / "src" / "isograd"
MAX_LINES = 400

GROUND = {"errors", "records", "findings"}
MAY_IMPORT: dict[str, set[str]] = {
    "errors": set(),
    "records": set(),
    "findings": {"records"},
    "alarms": {"findings"},
    "catalogue": {"errors"},
    "storage": GROUND,
    "sinks": {*GROUND, "catalogue", "storage"},
    "theory": {"errors"},
    "statistics": {"errors", "catalogue"},
    "sites": {"errors", "records"},
    "prediction": {"errors", "records", "catalogue", "theory", "sites"},
    "datasets": {"errors"},
    "probe": {"errors", "records", "statistics", "theory", "sites"},
    "rules": {"records", "findings", "catalogue", "sites"},
    "remedies": {*GROUND, "catalogue", "theory", "sites", "probe"},
    "diagnosis": {*GROUND, "rules"},
    "explaining": {"errors", "rules"},
    "checking": {*GROUND, "diagnosis", "prediction", "probe"},
    "repairs": {*GROUND, "diagnosis", "checking", "remedies", "probe", "sites"},
    "watching": {*GROUND, "alarms", "diagnosis", "probe", "rules", "sinks"},
    "reporting": {*GROUND, "storage", "prediction", "rules", "repairs"},
    "lab": {
        *GROUND,
        "catalogue",
        "datasets",
        "diagnosis",
        "checking",
        "prediction",
        "probe",
        "rules",
        "sites",
        "statistics",
        "theory",
        "watching",
    },
    "integrations": {*GROUND, "watching"},
    "cli": {
        *GROUND,
        "integrations",
        "lab",
        "storage",
        "datasets",
        "rules",
        "explaining",
        "checking",
        "diagnosis",
        "prediction",
        "remedies",
        "repairs",
        "reporting",
        "sinks",
        "statistics",
        "theory",
        "watching",
    },
    "testing": {*GROUND, "rules", "remedies", "probe", "sinks"},
    "__main__": {"cli"},
}
"""What each room may name, anywhere in its files. The root only lists the public names."""

LATE = {"findings": {"reporting"}, "repairs": {"reporting"}}
"""What a room may import inside a function only: results show themselves, see decision 3."""

HEAVY: dict[str, set[str]] = {
    "theory": {"numpy", "scipy"},
    "statistics": {"torch"},
    "statistics.backends._kernels": {"torch", "triton"},
    "sites._noting": {"torch"},
    "sites.batches": {"numpy", "torch"},
    "sites.codes": {"torch"},
    "sites.facts": {"torch"},
    "sites.graph": {"torch"},
    "sites.losses": {"torch"},
    "sites.parameters": {"torch"},
    "sites.places": {"torch"},
    "sites.randomness": {"torch"},
    "sites.tape": {"torch"},
    "sites.tree": {"torch"},
    "prediction": {"numpy", "torch"},
    "prediction.changes": set(),
    "prediction.specs": set(),
    "probe": {"numpy", "torch"},
    "probe.thinning": set(),
    "lab.bench": {"torch"},
    "lab.convolutional": {"torch"},
    "lab.experiments": {"numpy", "torch"},
    "lab.fleet": {"torch"},
    "lab.lesions": {"torch"},
    "lab.images": {"numpy", "torch"},
    "lab.networks": {"torch"},
    "lab.running": {"torch"},
    "lab.stacks": {"torch"},
    "lab.verifying": {"torch"},
    "remedies": {"numpy", "torch"},
    "repairs": {"torch"},
    "repairs.comparing": set(),
    "repairs.result": set(),
    "integrations._modules": {"torch"},
    "integrations.lightning": {"torch", "pytorch_lightning", "lightning"},
    "integrations.transformers": {"torch", "transformers"},
    "cli": {"click"},
}
"""Packages beyond the standard library that a room, folder or file may import at module level.

What loads torch may itself be imported at module level only by what may load torch.
"""


@dataclass(frozen=True)
class Import:
    """One imported module, and how it is imported."""

    name: str
    line: int
    late: bool
    """Inside a function: it happens when the function runs."""
    typing_only: bool
    """Under `if TYPE_CHECKING`: it never happens."""


def imports(source: str, module: str) -> Iterator[Import]:
    """Every import of a source, with `from a import b` as `a.b` where that may be a module."""

    def walk(node: ast.AST, late: bool, typing_only: bool) -> Iterator[Import]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            late = True
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            for child in node.body:
                yield from walk(child, late, True)
            for child in node.orelse:
                yield from walk(child, late, typing_only)
            return
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield Import(alias.name, node.lineno, late, typing_only)
        elif isinstance(node, ast.ImportFrom):
            origin = "." * node.level + (node.module or "")
            for alias in node.names:
                yield Import(f"{origin}.{alias.name}", node.lineno, late, typing_only)
        for child in ast.iter_child_nodes(node):
            yield from walk(child, late, typing_only)

    yield from walk(ast.parse(source, module), False, False)


def room_of(module: str) -> str:
    """`isograd.cli.commands.check` is in the room `cli`; `isograd` itself is the root, ``."""
    return module.split(".")[1] if "." in module else ""


def heavy(module: str) -> set[str]:
    """What a module of this package may load."""
    name = module.removeprefix("isograd.")
    while name not in HEAVY and "." in name:
        name = name.rpartition(".")[0]
    return HEAVY.get(name, set())


def breaches(module: str, source: str) -> list[str]:
    """What one source does against the rules of the house."""
    room = room_of(module)
    found = []
    if (lines := source.count("\n")) > MAX_LINES:
        found.append(f"{module} has {lines} lines, at most {MAX_LINES}")
    if room and room not in MAY_IMPORT:
        found.append(f"{module} is in no room; add {room!r} to the table")
    for one in imports(source, module):
        where = f"{module}:{one.line} imports {one.name}"
        parts = one.name.split(".")
        free = one.late or one.typing_only
        if parts[0] == "":
            found.append(f"{where}: relative")
        elif parts[0] == "isograd" and room:
            wrong = _own(where, room, parts, late=one.late)
            loads = "torch" in heavy(one.name) | heavy(one.name.rpartition(".")[0])
            if not wrong and not free and loads and "torch" not in heavy(module):
                wrong = [f"{where} at module level, which loads torch"]
            found += wrong
        elif not free and parts[0] not in {*sys.stdlib_module_names, *heavy(module), "isograd"}:
            found.append(f"{where} at module level; import it where it is used")
    return found


def _own(where: str, room: str, parts: list[str], *, late: bool) -> list[str]:
    other = parts[1] if len(parts) > 1 else ""
    if other not in MAY_IMPORT:
        return [f"{where}: from the package root"]
    allowed = {room, *MAY_IMPORT.get(room, set()), *(LATE.get(room, set()) if late else set())}
    return [] if other in allowed else [f"{where}: {room} may not name {other}"]


def modules() -> dict[str, str]:
    """Every module of the package by its dotted name, with its source."""
    named = {}
    for path in sorted(SOURCE.rglob("*.py")):
        parts = ["isograd", *path.relative_to(SOURCE).with_suffix("").parts]
        named[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path.read_text()
    return named


def cycle(sources: Mapping[str, str]) -> list[str]:
    """One ring of modules that import each other at module level; empty if there is none."""
    graph = {
        module: {
            target
            for one in imports(source, module)
            if not one.late and not one.typing_only
            for target in (one.name, one.name.rpartition(".")[0])
            if target in sources and target != module
        }
        for module, source in sources.items()
    }
    done: set[str] = set()

    def visit(module: str, path: list[str]) -> list[str]:
        if module in path:
            return [*path[path.index(module) :], module]
        if module in done:
            return []
        for target in sorted(graph[module]):
            if ring := visit(target, [*path, module]):
                return ring
        done.add(module)
        return []

    return next((ring for module in sorted(graph) if (ring := visit(module, []))), [])


@pytest.mark.parametrize("module", modules())
def test_a_module_keeps_to_its_room(module: str) -> None:
    assert breaches(module, modules()[module]) == []


@pytest.mark.parametrize("folder", ["tests", "benchmarks", "docs", "examples"])
def test_no_file_beside_the_package_is_longer_either(folder: str) -> None:
    files = sorted((SOURCE.parents[1] / folder).rglob("*.py"))
    assert files
    lengths = {str(path): path.read_text().count("\n") for path in files}
    assert {name: lines for name, lines in lengths.items() if lines > MAX_LINES} == {}


def test_no_module_imports_itself_through_others() -> None:
    assert cycle(modules()) == []


def test_the_table_names_real_rooms_and_has_no_cycle() -> None:
    rooms = {room_of(module) for module in modules()} - {""}
    assert rooms == set(MAY_IMPORT)
    sources = {
        f"isograd.{room}": "".join(f"import isograd.{other}\n" for other in others)
        for room, others in MAY_IMPORT.items()
    }
    assert cycle(sources) == []


@pytest.mark.parametrize(
    ("module", "source", "breach"),
    [
        ("isograd.rules.x", "from isograd.probe import hooks", "rules may not name probe"),
        ("isograd.rules.x", "def f():\n    import isograd.probe", "rules may not name probe"),
        ("isograd.findings", "from isograd.reporting import render", "may not name reporting"),
        ("isograd.rules.x", "from isograd import check", "from the package root"),
        ("isograd.rules.x", "import isograd", "from the package root"),
        ("isograd.rules.x", "from . import _rule", "relative"),
        ("isograd.records", "import torch", "at module level"),
        ("isograd.records", "try:\n    import torch\nexcept ImportError:\n    pass", "at module"),
        ("isograd.sites", "class A:\n    import numpy", "at module level"),
        ("isograd.sites", "from isograd.sites import tape", "which loads torch"),
        ("isograd.sites", "from isograd.sites.tape import Tape", "which loads torch"),
        ("isograd.sites.x", "import torch", "at module level"),
        ("isograd.sites.tape", "import numpy", "at module level"),
        ("isograd.sites.tape", "from isograd.theory import gains", "sites may not name theory"),
        ("isograd.sites.tape", "from isograd.probe import hooks", "sites may not name probe"),
        ("isograd.prediction.x", "from isograd.probe import hooks", "may not name probe"),
        ("isograd.rules.x", "import isograd.sites.tape", "which loads torch"),
        ("isograd.cli.commands.x", "import rich.console", "at module level"),
        ("isograd.theory.x", "import torch", "at module level"),
        ("isograd", "import torch", "at module level"),
        ("isograd.rules.x", "\n" * 401, "has 401 lines"),
        ("isograd.attic.x", "", "is in no room"),
    ],
)
def test_a_breach_is_seen(module: str, source: str, breach: str) -> None:
    (found,) = breaches(module, source)
    assert breach in found


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("isograd.rules.x", "from isograd.rules import Rule\nfrom isograd.findings import Finding"),
        ("isograd.findings", "def f():\n    from isograd.reporting import render"),
        ("isograd.sites", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch"),
        ("isograd.sites", "def f():\n    import torch"),
        ("isograd.sites", "def f():\n    from isograd.sites.tape import Tape"),
        ("isograd.sites.tape", "import torch\nfrom isograd.sites.batches import Batch"),
        ("isograd.rules.x", "from isograd.sites import KINDS"),
        ("isograd.rules.x", "def f():\n    from isograd.sites.tape import Tape"),
        ("isograd.probe.x", "import torch\nfrom isograd.sites import KINDS"),
        ("isograd.prediction.x", "import torch\nfrom isograd.sites.tape import Tape"),
        ("isograd.cli.x", "import click\nfrom isograd import datasets, storage"),
        ("isograd", "import isograd.checking"),
        ("isograd.rules.x", "\n" * 400),
    ],
)
def test_what_is_allowed_is_no_breach(module: str, source: str) -> None:
    assert breaches(module, source) == []


def test_a_cycle_is_seen() -> None:
    ring = {
        "isograd.a": "from isograd.b import x",
        "isograd.b": "import isograd.c",
        "isograd.c": "from isograd import a",
        "isograd.d": "import isograd.a",
    }
    assert cycle(ring) == ["isograd.a", "isograd.b", "isograd.c", "isograd.a"]
    late = {**ring, "isograd.c": "def f():\n    from isograd import a"}
    assert cycle(late) == []


def test_the_words_of_sites_load_no_torch() -> None:
    code = (
        "import sys, isograd.sites\n"
        "print(isograd.sites.kind_of_function('relu_'), 'torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["relu", "False"], done.stderr
