"""`isograd predict`: signal and gradient of a network by theory alone, before it is built."""

import click

from isograd.cli import _options, _output, _predict, _targets
from isograd.cli._progress import progress

EXAMPLE = """\
\b
Examples:
  isograd predict net.py:make --input 'float32[32,3,224,224]'
  isograd predict net.py:make --input 'int64[2,128]<50257' --set depth=48
"""


@click.command(short_help="Say what a network will do, before it is built.", epilog=EXAMPLE)
@click.argument("target")
@click.option(
    "--input",
    "inputs",
    metavar="SPEC",
    help="Types and shapes: 'float32[32,3,224,224]', 'int64[2,128]<50257' (ids below a bound); "
    "several joined by ';', with name= in front for keywords.",
)
@click.option(
    "--data",
    metavar="DATA",
    help="A batch instead: as in `isograd check`; its moments and ids count.",
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="An argument of the factory."
)
@click.option(
    "--loss",
    metavar="LOSS",
    help="A loss of torch.nn.functional, such as mse_loss, or module:callable. Default: chosen "
    "from outputs and targets; the report says which.",
)
@click.option(
    "--batch-size",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="Samples drawn from a built-in set or a file.",
)
@_output.format_option
@_output.output_option
@click.option("--save", metavar="RUN", help="Add the diagnosis to a run file: run.isograd.")
@_output.fail_option
@click.option(
    "--select", multiple=True, metavar="CODES", help="Judge by these rules only: IG1,IG204."
)
@click.option("--ignore", multiple=True, metavar="CODES", help="Leave these rules out.")
@click.option(
    "--seed", type=_options.SEED, default=0, show_default=True, help="Of everything drawn."
)
@click.option(
    "--train/--eval", "training", default=None, help="Mode of the model. Default: as it comes."
)
def command(
    target: str,
    *,
    inputs: str | None,
    data: str | None,
    settings: tuple[str, ...],
    loss: str | None,
    batch_size: int,
    form: str | None,
    output: str | None,
    save: str | None,
    fail_on: str,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    seed: int,
    training: bool | None,
) -> int:
    """Say what signal and gradient will do in TARGET, by theory alone.

    TARGET is path/to/file.py:name or package.module:name, where name is a torch.nn.Module, or a
    callable that returns one, or returns (model, batch). A callable is asked for its network
    without parameters: nothing is allocated, at any size. Exit code: 0 healthy, 1 findings or not
    predictable, 2 bad input.
    """
    place = _targets.locate(target)
    arguments = _predict.settings(settings)
    make_loss = _options.loss(loss)
    batch = _predict.batch(inputs, data, batch_size=batch_size, seed=seed)
    _output.check_output(output, form)
    if save is not None:
        _output.check_file(save)
    selected, ignored = _options.codes(select), _options.codes(ignore)

    with progress(f"loading {target}"):
        make = _predict.network(place, _targets.load(place), arguments)
        model, own = make()
        if training is not None:
            model.train(training)
        given = batch(own)
        loss_function = make_loss()

    from isograd.diagnosis import diagnose
    from isograd.prediction.predicting import predict

    with progress("predicting"):
        record = predict(model, given, loss=loss_function, seed=seed)
        diagnosis = diagnose(record, select=selected, ignore=ignored)
    if save is not None:
        from isograd import storage

        storage.save(save, diagnosis, target)
    _output.write(diagnosis, form, output, artifact=place.file)
    doubtful = record.fact("prediction.predictable") is False and fail_on != "never"
    return int(doubtful) or _output.exit_code(diagnosis, fail_on)
