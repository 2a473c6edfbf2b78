"""What `isograd watch` puts into a Python: waits for torch, and otherwise gets out of the way.

Python imports a module of this name when it starts. Here nothing else is imported until torch is.
"""

import os
import sys
from importlib.machinery import ModuleSpec, PathFinder
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__))


class _WhenTorchComes:
    """Stands first among the finders until torch is imported."""

    @classmethod
    def find_spec(cls, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        """Finds torch as it is found without this, and has the watching begin when it is there."""
        if name != "torch":
            return None
        sys.meta_path.remove(cls)
        spec = PathFinder.find_spec(name, path, target)
        if spec is not None and spec.loader is not None:
            original = spec.loader.exec_module

            def exec_module(module: Any) -> None:
                original(module)
                _begin()

            spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def _begin() -> None:
    try:
        from isograd.integrations.scripts import arm

        arm()
    except Exception as error:  # whatever it is, the script goes on
        print(f"isograd watch: nothing is watched: {error!r}", file=sys.stderr)  # noqa: T201


def _hand_on() -> None:
    """Runs the one that this Python would have imported without ours."""
    from importlib.util import module_from_spec

    others = [p for p in sys.path if os.path.abspath(p or ".") != _HERE]
    spec = PathFinder.find_spec("sitecustomize", others)
    if spec is not None and spec.loader is not None:
        module = module_from_spec(spec)
        sys.modules["sitecustomize"] = module
        spec.loader.exec_module(module)


if os.environ.get("ISOGRAD_WATCH"):
    sys.meta_path.insert(0, _WhenTorchComes)
_hand_on()
