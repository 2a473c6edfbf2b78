"""Targets: `file.py:name` and `package.module:name`, turned into the objects they name."""

import ast
import difflib
import importlib
import importlib.util
import inspect
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from isograd.errors import IsogradError, TargetError

_DYNAMIC = frozenset({"*", "__getattr__", "globals", "vars", "exec", "setattr"})
"""What a source may hold that makes names which its text does not show."""


@dataclass(frozen=True)
class Target:
    """A place whose text was read and found good; nothing in it has run yet."""

    text: str
    """What the user wrote."""
    module: str
    """Dotted name under which the module is imported."""
    attribute: str
    """Name of the object in it; may be nested: `zoo.small`."""
    file: Path | None
    """The file to run, where the target names one."""
    source: Path | None
    """The Python source, where there is one."""
    needs_more: bool
    """Whether the source imports anything beyond the standard library."""


def locate(text: str, what: str = "TARGET") -> Target:
    """Finds a target and reads its source, without running any of it.

    Args:
        text: `path/to/file.py:name` or `package.module:name`.
        what: what the text is called in errors.

    Raises:
        TargetError: no colon, no such file or module, not Python, or no such name in it.
    """
    place, colon, attribute = text.rpartition(":")
    if not colon or not place or not attribute:
        raise TargetError(
            f"{what} {text!r} does not name an object; write path/to/file.py:name or "
            "package.module:name"
        )
    is_file = place.endswith(".py") or "/" in place
    source = _file(place, what) if is_file else _module_source(place, what)
    needs_more = False
    if source is not None:
        tree = _parse(source)
        _look_for(attribute.split(".")[0], tree, source)
        needs_more = _imports_beyond_stdlib(tree)
    if is_file:
        # A name of its own: a user's `types.py` must not take the place of the real one.
        return Target(text, f"_target_{Path(place).stem}", attribute, source, source, needs_more)
    return Target(text, place, attribute, None, source, needs_more)


@contextmanager
def importable(target: Target) -> Iterator[None]:
    """Makes the target's folder and the current one importable while it runs."""
    before = list(sys.path)
    folder = [] if target.file is None else [str(target.file.parent.resolve())]
    sys.path[:0] = [*folder, str(Path.cwd())]
    try:
        yield
    finally:
        sys.path[:] = before


def load(target: Target) -> Any:
    """Runs the target's module and returns the object it names.

    Raises:
        TargetError: the module raises, or has no such object.
    """
    with importable(target):
        found: Any = call(target, "importing it", lambda: _import(target))
        for name in target.attribute.split("."):
            if not hasattr(found, name):
                raise TargetError(
                    f"{target.text}: {_owner(found, target)} has no {name!r}"
                    f"{_suggest(name, dir(found))}"
                )
            found = getattr(found, name)
    return found


def call(target: Target, doing: str, function: Callable[[], Any]) -> Any:
    """Calls the user's code; what it raises becomes a TargetError that names the line.

    Raises:
        TargetError: the code raised anything, `SystemExit` included.
    """
    # What it prints must not come before a report in a format that machines read.
    with importable(target), redirect_stdout(sys.stderr):
        try:
            return function()
        except IsogradError:
            raise
        except (Exception, SystemExit) as error:
            message = f"{type(error).__name__}: {error}".rstrip(": ")
            raise TargetError(
                f"{_blame(error, target)}: {doing} raised {message}; make that line work first"
            ) from error


def factory(target: Target, found: Any) -> Any:
    """Calls a factory; `found` is returned as it is where it is no callable.

    Raises:
        TargetError: it wants arguments, or raises.
    """
    if not callable(found):
        return found
    missing = _required(found)
    if missing:
        raise TargetError(
            f"{target.text}: needs the arguments {', '.join(missing)}; name a factory that takes "
            "none, such as `def make(): return Net(width=64)`"
        )
    return call(target, f"{target.attribute}()", found)


def model(target: Target) -> tuple[Any, Any]:
    """The model a target names, and the batch that its factory returned with it, if it did.

    Raises:
        TargetError: it names neither a model nor a factory of one.
    """
    found = load(target)
    made = found if _is_module(found) else factory(target, found)
    batch = None
    if isinstance(made, tuple) and len(made) == 2 and _is_module(made[0]):
        made, batch = made
    if not _is_module(made):
        returned = "is" if made is found else "returned"
        raise TargetError(
            f"{target.text}: {returned} {_a(made)}, not a model; name a "
            "torch.nn.Module, or a factory that returns one or (model, batch)"
        )
    return made, batch


def _file(place: str, what: str) -> Path:
    path = Path(place)
    # os.path says no where a Path raises: no permission on the way, a name too long.
    if os.path.isfile(path):
        return path
    found = "is a folder" if os.path.isdir(path) else "no such file"
    folder = path.parent if os.path.isdir(path.parent) else Path()
    near = _suggest(path.name, [p.name for p in folder.glob("*.py")])
    raise TargetError(f"{what}: {place}: {found} (looked in {Path.cwd()}){near}")


def _module_source(name: str, what: str) -> Path | None:
    """The source of an importable module; `None` for one that has none."""
    before = list(sys.path)
    sys.path.insert(0, str(Path.cwd()))
    try:
        spec = importlib.util.find_spec(name)
    except (ImportError, ValueError, AttributeError):
        spec = None
    finally:
        sys.path[:] = before
    if spec is None:
        raise TargetError(
            f"{what}: no module named {name!r} can be imported from {Path.cwd()}; for a file write "
            "path/to/file.py:name"
        )
    return Path(spec.origin) if spec.origin and spec.origin.endswith(".py") else None


def _parse(source: Path) -> ast.Module:
    try:
        return ast.parse(source.read_bytes())
    except SyntaxError as error:
        raise TargetError(f"{source}:{error.lineno}: not valid Python: {error.msg}") from error
    except (OSError, ValueError) as error:
        raise TargetError(f"{source}: cannot be read as Python: {error}") from error


def _look_for(name: str, tree: ast.Module, source: Path) -> None:
    """Refuses a name that the source nowhere mentions: sooner than running it would."""
    mentioned: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            mentioned.add(node.id)
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            mentioned.add(node.name)
        elif isinstance(node, ast.alias):
            mentioned.add(node.asname or node.name.split(".")[0])
    if name not in mentioned and not mentioned & _DYNAMIC:
        defined = [
            node.name for node in tree.body if isinstance(node, (ast.FunctionDef, ast.ClassDef))
        ]
        raise TargetError(f"{source}: has no {name!r}{_suggest(name, defined)}")


def _imports_beyond_stdlib(tree: ast.Module) -> bool:
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            names = [node.module or ""]
        if any(name.split(".")[0] not in sys.stdlib_module_names for name in names):
            return True
    return False


def _import(target: Target) -> ModuleType:
    if target.file is None:
        return importlib.import_module(target.module)
    spec = importlib.util.spec_from_file_location(target.module, target.file)
    if spec is None or spec.loader is None:
        raise ImportError(f"{target.file} is no Python source")
    module = importlib.util.module_from_spec(spec)
    sys.modules[target.module] = module  # dataclasses and pickle look their module up by name
    spec.loader.exec_module(module)
    return module


def _is_module(value: Any) -> bool:
    torch = sys.modules.get("torch")  # a program without torch holds no models
    return torch is not None and isinstance(value, torch.nn.Module)


def _owner(value: Any, target: Target) -> str:
    if isinstance(value, ModuleType) and target.source is not None:
        return str(target.source)  # the name under which a file is imported is ours alone
    return repr(getattr(value, "__name__", type(value).__name__))


def _required(function: Callable[..., Any]) -> list[str]:
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some built-in callables have no signature
        return []
    free = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return [p.name for p in parameters if p.default is p.empty and p.kind not in free]


def _blame(error: BaseException, target: Target) -> str:
    """`file:line` of the innermost frame in the target's own source, else in its folder."""
    frames = traceback.extract_tb(error.__traceback__)
    if target.source is not None:
        source = str(target.source.resolve())
        folder = str(target.source.resolve().parent)
        own = [f for f in frames if str(Path(f.filename).resolve()) == source]
        near = [f for f in frames if str(Path(f.filename).resolve()).startswith(folder)]
        for frame in (own or near)[-1:]:
            return f"{frame.filename}:{frame.lineno}"
    return target.text


def _a(value: Any) -> str:
    return f"an object of type {type(value).__name__}"


def _suggest(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    if close:
        return f"; did you mean {' or '.join(close)}?"
    public = [word for word in known if not word.startswith("_")]
    return f"; there is {', '.join(public[:8])}" if public else ""
