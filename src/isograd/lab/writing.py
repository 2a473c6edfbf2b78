"""write(): a result as JSON, as a figure and as a page that opens in a browser."""

from pathlib import Path

from isograd.errors import InputError
from isograd.lab import figures
from isograd.lab.experiment import Experiment
from isograd.lab.pages import html, page
from isograd.lab.result import FAULTS, Result, from_json, to_json

SUFFIXES = (".json", ".png", ".svg", ".html")


def stem(result: Result) -> str:
    """Name of a result's files: that of the experiment, and the scale where it is full."""
    return result.experiment if result.scale != "full" else f"{result.experiment}-full"


def write(
    experiment: Experiment,
    result: Result,
    folder: Path,
    suffixes: tuple[str, ...] = SUFFIXES,
) -> list[Path]:
    """Writes a result into a folder, which is made if need be.

    Args:
        experiment: what made the result.
        result: of `run`.
        folder: where to.
        suffixes: which of .json, .png, .svg, .html and .md to write.

    Returns:
        The files.

    Raises:
        InputError: a file cannot be written, or matplotlib is missing.
    """
    experiment = experiment.given(result.settings)
    paths = [folder / f"{stem(result)}{suffix}" for suffix in suffixes]
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for path in paths:
            if path.suffix == ".json":  # first of all: a figure can fail
                path.write_text(to_json(result), encoding="utf-8")
        with figures.styled():
            figure = experiment.figure(result)
        for path in paths:
            if path.suffix == ".json":
                continue
            if path.suffix in (".png", ".svg"):
                figures.save(figure, path)
            elif path.suffix == ".md":
                path.write_text(page(experiment, result), encoding="utf-8")
            else:
                path.write_text(html(experiment, result), encoding="utf-8")
    except OSError as error:
        where = error.filename or folder
        raise InputError(f"{where}: cannot be written: {error.strerror}") from error
    except FAULTS as error:
        if result.scale != "custom":
            raise
        raise InputError(
            f"{experiment.code}: its figure cannot show numbers that come out at these settings "
            f"({type(error).__name__}: {error}); choose values nearer to its own"
        ) from error
    return paths


def read(path: Path) -> Result:
    """A result from its JSON file.

    Raises:
        DataError: the file holds no result.
        InputError: it cannot be read.
    """
    try:
        return from_json(path.read_text(encoding="utf-8"), path)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
