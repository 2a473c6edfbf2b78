"""The experiments: one public file, one experiment. Adding the file is the registration."""

import ast
import pkgutil
from importlib.resources import files

from isograd.catalogue import Catalogue
from isograd.lab.experiment import Experiment

EXPERIMENTS: Catalogue[Experiment] = Catalogue(__name__, Experiment)  # type: ignore[type-abstract]  # only subclasses


def questions() -> dict[str, str]:
    """Name and question of every experiment of this folder, read without running a file."""
    told = {}
    for info in pkgutil.iter_modules(__path__):
        if info.name.startswith("_"):
            continue
        source = files(__name__).joinpath(f"{info.name}.py").read_text(encoding="utf-8")
        told[info.name.replace("_", "-")] = (
            ast.get_docstring(ast.parse(source)) or ""
        ).splitlines()[0]
    return told
