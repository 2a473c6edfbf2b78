"""--loss, --optimizer, --device, --dtype, --select: words judged before torch is imported."""

import difflib
import math
import re
from collections.abc import Callable, Iterable
from typing import Any

import click

from isograd.cli import _targets
from isograd.errors import InputError

LOSSES = (
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "cross_entropy",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "multi_margin_loss",
    "multilabel_margin_loss",
    "multilabel_soft_margin_loss",
    "nll_loss",
    "poisson_nll_loss",
    "smooth_l1_loss",
    "soft_margin_loss",
)
"""Functions of torch.nn.functional that take outputs and targets."""

OPTIMIZERS = {
    "adadelta": "Adadelta",
    "adafactor": "Adafactor",
    "adagrad": "Adagrad",
    "adam": "Adam",
    "adamax": "Adamax",
    "adamw": "AdamW",
    "asgd": "ASGD",
    "nadam": "NAdam",
    "radam": "RAdam",
    "rmsprop": "RMSprop",
    "sgd": "SGD",
}
"""Classes of torch.optim by the names the command line has for them."""

DTYPES = ("float32", "float64", "float16", "bfloat16")

SEED = click.IntRange(min=0, max=2**63 - 1)
"""What every generator of torch takes."""

_WITH_MOMENTUM = ("sgd", "rmsprop")


class Finite(click.FloatRange):
    """A range without infinity and NaN, which every comparison lets through."""

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The number, or click's error."""
        number: float = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number.", param, ctx)
        return number


def together(*options: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Options that several commands have, as one decorator."""

    def add(command: Any) -> Any:
        for option in reversed(options):
            command = option(command)
        return command

    return add


rates = together(
    click.option("--lr", type=Finite(min=0, min_open=True), help="Learning rate."),
    click.option("--momentum", type=Finite(min=0), help="Momentum of sgd or rmsprop."),
    click.option("--weight-decay", type=Finite(min=0), help="Weight decay."),
)
loss_option = click.option(
    "--loss",
    metavar="LOSS",
    help="A loss of torch.nn.functional, such as mse_loss, or module:callable. Default: chosen "
    "from outputs and targets; the report says which.",
)
batch_size = click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Samples drawn from a built-in set or a file.",
)
model_state = together(
    click.option("--device", help="cpu, cuda, cuda:1, mps or xpu. Default: where the model is."),
    click.option("--dtype", type=click.Choice(DTYPES), help="Default: what the model has."),
    click.option("--seed", type=SEED, default=0, show_default=True, help="Of everything drawn."),
    click.option(
        "--train/--eval", "training", default=None, help="Mode of the model. Default: as it comes."
    ),
)


def loss(text: str | None) -> Callable[[], Any]:
    """Judges --loss now; the returned function makes it, `None` where the user named none.

    Raises:
        InputError: no such loss of torch.
        TargetError: a target that cannot be found.
    """
    if text is None:
        return lambda: None
    if ":" in text:
        target = _targets.locate(text, "--loss")
        return lambda: _loss_object(target)
    if text not in LOSSES:
        raise InputError(
            f"--loss: torch.nn.functional has no loss {text!r}; {_nearest(text, LOSSES)}; "
            "or name module:callable"
        )

    def from_torch() -> Any:
        import torch.nn.functional

        return getattr(torch.nn.functional, text)

    return from_torch


def optimizer(
    name: str | None, *, steps: int, **settings: float | None
) -> Callable[[Iterable[Any]], Any] | None:
    """A factory that takes parameters and returns torch's optimizer of that name.

    Args:
        name: a key of OPTIMIZERS, in either case; `None` for no optimizer.
        steps: of the rehearsal, which needs an optimizer.
        settings: lr, momentum and weight_decay; `None` leaves torch's default.

    Raises:
        InputError: no such optimizer, or settings without one or that it does not have.
    """
    given = {key: value for key, value in settings.items() if value is not None}
    if name is None:
        for key in [*(["steps"] if steps else []), *given]:
            raise InputError(
                f"--{key.replace('_', '-')} needs an optimizer; add --optimizer "
                f"({', '.join(sorted(OPTIMIZERS))})"
            )
        return None
    if name.lower() not in OPTIMIZERS:
        near, every = _nearest(name.lower(), OPTIMIZERS), f"there is {', '.join(OPTIMIZERS)}"
        raise InputError(
            f"--optimizer: no {name!r}; {every if near == every else f'{near}? {every}'}"
        )
    if "momentum" in given and name.lower() not in _WITH_MOMENTUM:
        raise InputError(
            f"--momentum: {name} has none of that name; use it with {' or '.join(_WITH_MOMENTUM)}"
        )

    def make(parameters: Iterable[Any]) -> Any:
        import torch

        return getattr(torch.optim, OPTIMIZERS[name.lower()])(parameters, **given)

    return make


def named(words: Iterable[str], option: str, example: str) -> dict[str, str]:
    """What words such as `depth=48` give to each name.

    Raises:
        InputError: a word without a name or value, or a name given twice.
    """
    found: dict[str, str] = {}
    for word in words:
        name, _, text = word.partition("=")
        if not name.isidentifier() or not text:
            raise InputError(f"{option}: {word!r} is no name=value, such as {example}")
        if name in found:
            raise InputError(f"{option}: {name} is given twice")
        found[name] = text
    return found


def codes(words: Iterable[str]) -> tuple[str, ...]:
    """Codes of rules, or prefixes of codes, from options that may hold several with commas.

    Raises:
        InputError: no rule has a code that begins so.
    """
    from isograd.rules import RULES

    words = tuple(words)
    wanted = tuple(code for word in words for code in word.upper().replace(",", " ").split())
    if words and not wanted:
        raise InputError("--select and --ignore want codes of rules; `isograd rules` lists them")
    known = [rule.code for rule in RULES]
    for code in wanted:
        if not any(rule.startswith(code) for rule in known):
            raise InputError(
                f"no rule's code begins with {code!r}; {_nearest(code, known)}; "
                "`isograd rules` lists them"
            )
    return wanted


def check_device(text: str | None) -> None:
    """Refuses what is no name of a device; whether it is there is `device()`'s question.

    Raises:
        InputError: not of the form cpu, cuda, cuda:1, mps, xpu.
    """
    if text is not None and not re.fullmatch(r"(cpu|cuda|mps|xpu)(:\d+)?", text):
        raise InputError(f"--device: {text!r} is no device; write cpu, cuda, cuda:1, mps or xpu")


def place(model: Any, device: str | None, dtype: str | None) -> Any:
    """Moves a model to the device and type asked for, and returns that type.

    Raises:
        InputError: the device is not there.
    """
    import torch

    kind = None if dtype is None else getattr(torch, dtype)
    try:
        model.to(device=device, dtype=kind)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise InputError(
            f"--device {device}: {first}; `isograd doctor` shows the devices that are here"
        ) from error
    return kind


def _loss_object(target: _targets.Target) -> Any:
    found = _targets.load(target)
    if isinstance(found, type):  # a class such as torch.nn.CrossEntropyLoss
        found = _targets.factory(target, found)
    if not callable(found):
        raise InputError(
            f"--loss {target.text}: is of type {type(found).__name__}; name a callable "
            "(outputs, targets) -> scalar"
        )
    return found


def _nearest(word: str, known: Iterable[str]) -> str:
    choices = sorted(known)
    close = [name for name in choices if word and word in name][:3]
    close = close or difflib.get_close_matches(word, choices, n=3)
    if close:
        return f"did you mean {' or '.join(close)}"
    return f"there is {', '.join(choices)}"
