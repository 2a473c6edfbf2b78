"""run(): one experiment, its settings, its data, its seed: a Result that can be had again."""

import difflib
import importlib.metadata
import math
import typing
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import torch

from isograd.errors import InputError
from isograd.lab import images
from isograd.lab.bench import Bench
from isograd.lab.experiment import Experiment
from isograd.lab.experiments import EXPERIMENTS
from isograd.lab.result import FAULTS, Result, plain

_WORDS = {int: "a whole number", float: "a number", bool: "yes or no"}
_YES_NO = {"yes": True, "true": True, "1": True, "no": False, "false": False, "0": False}


def run(
    experiment: str | Experiment,
    *,
    scale: str = "standard",
    settings: Mapping[str, Any] | None = None,
    data: str | None = None,
    seed: int = 0,
    device: str = "cpu",
) -> Result:
    """Runs an experiment. Two runs alike bring the same numbers: torch uses one thread.

    Args:
        experiment: its name, or an experiment of your own.
        scale: fast, standard or full.
        settings: changes of its settings, as values or as text.
        data: data set; left out, the first that it prefers and that is at hand, and at the scale
            `fast` the one that comes with scikit-learn.
        seed: of all its random numbers.
        device: where headline experiments put their networks; others stay on the CPU.

    Raises:
        CatalogueError: there is no such experiment.
        InputError: no such scale, setting or device.
        DataError: the data set is not at hand, or none that the experiment can use.
    """
    chosen = EXPERIMENTS[experiment] if isinstance(experiment, str) else experiment
    chosen = chosen.at(scale)
    changed = change(chosen, settings or {})
    name, notes = choose_data(chosen, scale, data)
    place = _device(device)
    with _steady(seed):
        try:
            measured = changed.run(Bench(seed=seed, device=place, data_name=name))
        except FAULTS as error:
            if not settings:
                raise
            given = ", ".join(f"{key}={value}" for key, value in settings.items())
            raise InputError(
                f"{chosen.code} cannot run with {given} ({type(error).__name__}: "
                f"{error}); choose values nearer to its own"
            ) from error
    made_with = {"isograd": importlib.metadata.version("isograd"), "torch": str(torch.__version__)}
    if place.type == "cuda":
        made_with["device"] = torch.cuda.get_device_name(place)
        made_with["date"] = datetime.now(UTC).date().isoformat()
    return Result(
        experiment=chosen.code,
        scale=scale if changed.settings() == chosen.settings() else "custom",
        settings=plain(changed.settings()),
        seed=seed,
        data=name,
        device=str(place),
        numbers={key: _float(value) for key, value in measured.numbers.items()},
        series=plain(measured.series),
        notes=notes,
        made_with=made_with,
    )


def change(experiment: Experiment, settings: Mapping[str, Any]) -> Experiment:
    """The experiment with some settings changed; text is read as what the field is.

    Raises:
        InputError: no such setting, or a value that it cannot have.
    """
    kinds = typing.get_type_hints(type(experiment))
    known = [one.name for one in fields(experiment)]  # type: ignore[arg-type]  # a dataclass
    values = {}
    for name, value in settings.items():
        key = name.replace("-", "_")
        if key not in known:
            close = difflib.get_close_matches(key, known, n=2)
            every = f"there is {', '.join(known)}" if known else "it has none"
            hint = f"did you mean {' or '.join(close)}" if close else every
            raise InputError(f"{experiment.code} has no setting {name!r}; {hint}")
        values[key] = _parse(name, value, kinds[key]) if isinstance(value, str) else value
        _check_range(name, values[key], getattr(experiment, key))
    changed: Experiment = replace(experiment, **values)  # type: ignore[type-var]  # a dataclass
    return changed


def _check_range(name: str, value: Any, own: Any) -> None:
    """Refuses what no number of its kind can be: counts below 1, and what is not finite."""
    owns = own if isinstance(own, tuple) else (own,)
    for one in value if isinstance(value, tuple | list) else (value,):
        if isinstance(one, bool) or not isinstance(one, int | float):
            continue
        if not math.isfinite(one):
            raise InputError(f"{name}={one}: expected a finite number")
        if all(isinstance(x, int) and not isinstance(x, bool) for x in owns):
            least = min(1, *owns)
            if one < least:
                raise InputError(f"{name}={one}: expected a whole number of at least {least}")


def _parse(name: str, text: str, kind: Any) -> Any:
    if typing.get_origin(kind) is tuple:
        inner = typing.get_args(kind)[0]
        return tuple(_parse(name, part.strip(), inner) for part in text.split(","))
    if typing.get_origin(kind) is typing.Literal:
        if text not in typing.get_args(kind):
            raise InputError(f"{name} is one of {', '.join(typing.get_args(kind))}; got {text!r}")
        return text
    try:
        return _YES_NO[text.lower()] if kind is bool else kind(text)
    except (ValueError, KeyError):
        raise InputError(f"{name}={text}: expected {_WORDS.get(kind, kind.__name__)}") from None


def choose_data(
    experiment: Experiment, scale: str, wanted: str | None
) -> tuple[str | None, tuple[str, ...]]:
    """The data set of a run, and a note where it is another than the preferred one.

    Raises:
        InputError: the experiment needs none.
        DataError: the one asked for is not at hand, or none that can show it.
    """
    if wanted is not None:
        if not experiment.data:
            raise InputError(f"{experiment.code} needs no data; leave --data out")
        if not images.available(wanted):
            images.load(wanted)  # says what is wrong with the name
        return wanted, ()
    if not experiment.data:
        return None, ()
    if scale == "fast":
        return experiment.data[-1], ()
    for name in experiment.data:
        if images.available(name):
            if name == experiment.data[0]:
                return name, ()
            first = experiment.data[0]
            return name, (f"shown on {name}, since {images.absent(first)}",)
    images.load(experiment.data[0])
    raise AssertionError("load() raises for a set that is not available")


@contextmanager
def _steady(seed: int) -> Iterator[None]:
    """One thread and a seeded global stream; both are as before afterwards."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # sums depend on how many share them
    try:
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            yield
    finally:
        torch.set_num_threads(threads)


def _device(name: str) -> torch.device:
    try:
        place = torch.device(name)
        torch.empty(1, device=place)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise InputError(f"--device {name}: {first}; `isograd doctor` shows those here") from error
    return place


def _float(value: Any) -> float:
    """A number of any kind as Python's own."""
    number = value.item() if hasattr(value, "item") else value
    return number if isinstance(number, int) and not isinstance(number, bool) else float(number)
