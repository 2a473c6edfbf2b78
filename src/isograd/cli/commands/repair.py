"""`isograd repair`: finds the change that makes a network train, and proves it."""

import re

import click

from isograd.cli import _batches, _options, _output, _targets
from isograd.cli._loading import load, own_batch
from isograd.cli._progress import progress
from isograd.errors import InputError

FORMS = ("text", "json", "html", "markdown")
"""Forms of a repair; SARIF is for findings alone."""
FAMILIES = (
    "init",
    "activation",
    "normalization",
    "residual",
    "preprocessing",
    "optimizer",
    "loss",
)

EXAMPLE = """\
\b
Examples:
  isograd repair net.py:make --data digits --optimizer sgd --lr 0.1
  isograd repair net.py:make --data digits --optimizer adam --lr 1e-3 --budget 60s
  isograd repair net.py:make --data digits --allow init,optimizer --output repair.html
"""


@click.command(short_help="Find a change that makes it train, and prove it.", epilog=EXAMPLE)
@click.argument("target")
@click.option(
    "--data",
    metavar="DATA",
    help="What to train on in the trials, as in `isograd check`; part of it is held out.",
)
@click.option("--loss", metavar="LOSS", help="As in `isograd check`.")
@click.option(
    "--optimizer",
    metavar="NAME",
    help="sgd, adam, adamw, rmsprop …: what you train with. Default: adam, in the trials alone.",
)
@_options.rates
@click.option(
    "--budget",
    metavar="STEPS|TIME",
    default="200",
    show_default=True,
    help="Optimizer steps of all trials together, or a time: 30s, 5min.",
)
@click.option(
    "--allow",
    multiple=True,
    metavar="FAMILIES",
    help=f"Changes that may be made: {', '.join(FAMILIES)}. Default: all.",
)
@_options.batch_size
@click.option(
    "--format",
    "form",
    type=click.Choice(FORMS),
    help="Default: told by the suffix of --output, else text.",
)
@_output.output_option
@_options.model_state
def command(
    target: str,
    *,
    data: str | None,
    loss: str | None,
    optimizer: str | None,
    lr: float | None,
    momentum: float | None,
    weight_decay: float | None,
    budget: str,
    allow: tuple[str, ...],
    batch_size: int,
    form: str | None,
    output: str | None,
    device: str | None,
    dtype: str | None,
    seed: int,
    training: bool | None,
) -> int:
    """Find the least invasive change that makes TARGET train better, and prove it.

    TARGET is as in `isograd check`. Changes are made on copies, tried on your data and told as
    code. Exit code: 0 healthy or repaired, 1 an error stays (nothing helps, or
    not against all) or nothing was found and no copy learned, 2 bad input.
    """
    # Every word is judged before anything runs: a typo must not cost the import of torch.
    place = _targets.locate(target)
    make_loss = _options.loss(loss)
    make_optimizer = _options.optimizer(
        optimizer, steps=0, lr=lr, momentum=momentum, weight_decay=weight_decay
    )
    steps_or_time = _budget(budget)
    families = _families(allow)
    source = None if data is None else _batches.source(data, batch_size=batch_size, seed=seed)
    _options.check_device(device)
    _output.check_output(output, form)
    if _output.form_of(output, form) not in FORMS:
        raise InputError(f"--output {output}: a repair is written as {', '.join(FORMS)}")
    with progress(f"loading {target}"):
        model, batch = load(place, seed)
        drawn = own_batch(target, batch) if source is None else source()
        kind = _options.place(model, device, dtype)
        if training is not None:
            model.train(training)
        drawn = _batches.fit(drawn, model, kind)
        loss_function = make_loss()

    from isograd.repairs.repairing import repair

    with progress("trying, step") as tell:
        done = repair(
            model,
            drawn.batch,
            loss_function,
            optimizer=make_optimizer,
            data=drawn.batches,
            budget=steps_or_time,
            allow=families,
            seed=seed,
            progress=tell,
        )
    _output.write(done, form, output)
    return int(done.verdict not in ("healthy", "repaired") or done.learned is False)


def _budget(text: str) -> int | str:
    if re.fullmatch(r"[1-9]\d*", text):
        return int(text)
    if re.fullmatch(r"\d+(\.\d+)?(s|min)", text) and float(re.sub("[a-z]", "", text)) > 0:
        return text
    raise InputError(f"--budget {text}: give a number of steps, or a time such as 30s or 5min")


def _families(words: tuple[str, ...]) -> tuple[str, ...]:
    names = tuple(name for word in words for name in word.lower().replace(",", " ").split())
    for name in names:
        if name not in FAMILIES:
            raise InputError(f"--allow: there is no {name!r}; there is {', '.join(FAMILIES)}")
    if words and not names:
        raise InputError(f"--allow: names nothing; there is {', '.join(FAMILIES)}")
    return names or FAMILIES
