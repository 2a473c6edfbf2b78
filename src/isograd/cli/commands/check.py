"""`isograd check`: measures a model on one batch and says what is wrong, where and why.

With --predict-only nothing is measured: the prediction is judged by the same rules.
"""

from typing import TYPE_CHECKING, Any

import click

from isograd.cli import _batches, _options, _output, _predict, _targets
from isograd.cli import _predict_words as words
from isograd.cli._loading import load, own_batch
from isograd.cli._progress import progress
from isograd.errors import InputError

if TYPE_CHECKING:
    from isograd.findings import Diagnosis

EXAMPLE = """\
\b
Examples:
  isograd check net.py:make --data digits
  isograd check net.py:make --data digits --optimizer adam --lr 1e-3 --steps 50
  isograd check shop.models:Ranker --data batch.npz --output report.html
  isograd check net.py:make --predict-only --input 'float32[32,3,224,224]'
"""


@click.command(short_help="Say what is wrong in a model, where and why.", epilog=EXAMPLE)
@click.argument("target")
@click.option(
    "--data",
    metavar="DATA",
    help="digits, breast-cancer, diabetes, wine or iris (also as digits-raw …); an .npz or "
    ".safetensors file; or module:factory of a batch, batches or a DataLoader.",
)
@_options.loss_option
@click.option(
    "--optimizer",
    metavar="NAME",
    help="sgd, adam, adamw, rmsprop …: judge the learning rate too; with --steps, rehearse.",
)
@_options.rates
@click.option(
    "--steps",
    type=click.IntRange(min=0),
    default=0,
    show_default=True,
    help="Rehearse so many optimizer steps on a copy, and look again.",
)
@_options.batch_size
@_output.format_option
@_output.output_option
@click.option("--save", metavar="RUN", help="Add the diagnosis to a run file: run.isograd.")
@_output.fail_option
@click.option(
    "--select", multiple=True, metavar="CODES", help="Judge by these rules only: IG1,IG204."
)
@click.option("--ignore", multiple=True, metavar="CODES", help="Leave these rules out.")
@click.option(
    "--no-predict", "predict", flag_value=False, default=True, help="No theory beside it."
)
@click.option(
    "--predict-only",
    is_flag=True,
    help="Measure nothing and judge the prediction; the network is built without its parameters.",
)
@click.option(
    "--input",
    "inputs",
    metavar="SPEC",
    help="With --predict-only, types and shapes in place of --data, as in `isograd predict`.",
)
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
    steps: int,
    batch_size: int,
    form: str | None,
    output: str | None,
    save: str | None,
    fail_on: str,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    predict: bool,
    predict_only: bool,
    inputs: str | None,
    device: str | None,
    dtype: str | None,
    seed: int,
    training: bool | None,
) -> int:
    """Measure TARGET on one batch and say what is wrong, where and why.

    TARGET is path/to/file.py:name or package.module:name, where name is a torch.nn.Module, or a
    callable that returns one, or returns (model, batch). Exit code: 0 healthy, 1 findings,
    2 bad input.
    """
    # Every word is judged before anything runs: a typo must not cost the import of torch.
    place = _targets.locate(target)
    make_loss = _options.loss(loss)
    make_optimizer = _options.optimizer(
        optimizer, steps=steps, lr=lr, momentum=momentum, weight_decay=weight_decay
    )
    if predict_only:
        _without(optimizer=optimizer, device=device, dtype=dtype, no_predict=None if predict else 1)
        given = words.batch(inputs, data, loss=loss, batch_size=batch_size, seed=seed)
    elif inputs is not None:
        raise InputError("--input: a measurement needs values, so give --data; or --predict-only")
    source = None if data is None else _batches.source(data, batch_size=batch_size, seed=seed)
    _options.check_device(device)
    _output.check_output(output, form)
    if save is not None:
        _output.check_file(save)
    selected, ignored = _options.codes(select), _options.codes(ignore)

    if predict_only:
        with progress("predicting"):
            make = _predict.factory(place, {}, None)
            change = words.change((), (), None)
            network = _predict.Network(make, given, change, make_loss(), training, seed)
            diagnosis = network.judged(select=selected, ignore=ignored)
        return _tell(diagnosis, place, form, output, save, fail_on)
    with progress(f"loading {target}"):
        model, batch = load(place, seed)
        drawn = own_batch(target, batch) if source is None else source()
        kind = _options.place(model, device, dtype)
        if training is not None:
            model.train(training)
        drawn = _batches.fit(drawn, model, kind)
        loss_function = make_loss()

    from isograd.checking import check

    with progress("rehearsing, step" if steps else "measuring") as tell:
        diagnosis = check(
            model,
            drawn.batch,
            loss_function,
            optimizer=make_optimizer,
            data=drawn.batches,
            steps=steps,
            select=selected,
            ignore=ignored,
            predict=predict,
            seed=seed,
            progress=tell,
        )
    return _tell(diagnosis, place, form, output, save, fail_on)


def _tell(
    diagnosis: "Diagnosis",
    place: _targets.Target,
    form: str | None,
    output: str | None,
    save: str | None,
    fail_on: str,
) -> int:
    if save is not None:
        from isograd import storage

        storage.save(save, diagnosis, place.text)
    _output.write(diagnosis, form, output, artifact=place.file)
    doubtful = diagnosis.reading.seen.fact("prediction.predictable") is False
    return int(doubtful and fail_on != "never") or _output.exit_code(diagnosis, fail_on)


def _without(**options: Any) -> None:
    """Refuses what says how to measure where nothing is measured."""
    for name, value in options.items():
        if value is not None:
            raise InputError(
                f"--{name.replace('_', '-')}: nothing is measured with --predict-only; leave one "
                "of them out"
            )
