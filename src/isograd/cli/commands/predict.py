"""`isograd predict`: signal and gradient of a network by theory alone, before it is built."""

import click

from isograd.cli import _options, _output, _predict, _targets
from isograd.cli import _predict_words as words
from isograd.cli._progress import progress

EXAMPLE = """\
\b
Examples:
  isograd predict net.py:make --input 'float32[32,3,224,224]'
  isograd predict net.py:make --input 'float32[32,64] -> int64[32]<10' --set depth=48
  isograd predict net.py:make --input 'float32[32,64]' --explain blocks.3.mlp
  isograd predict net.py:make --input 'float32[32,64]' --sweep depth=12,24,48,96
  isograd predict net.py:make --input 'float32[32,64]' --init kaiming_normal --activation gelu
"""


@click.command(short_help="Say what a network will do, before it is built.", epilog=EXAMPLE)
@click.argument("target")
@click.option(
    "--input",
    "inputs",
    metavar="SPEC",
    help="Types and shapes: 'float32[32,3,224,224]', 'int64[2,128]<50257' (ids below a bound); "
    "several joined by ';', with name= in front for keywords; targets behind '->': "
    "'float32[32,64] -> int64[32]<10'.",
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
    "--init",
    "inits",
    multiple=True,
    metavar="INIT",
    help="What if the weights were drawn by kaiming_normal, xavier_uniform, orthogonal, "
    "normal:0.02, lecun, critical …; 'head=zeros' those of some layers.",
)
@click.option(
    "--activation",
    "activations",
    multiple=True,
    metavar="NAME",
    help="What if the activation modules were gelu, tanh …; 'blocks.*=silu' some of them.",
)
@click.option(
    "--residual-scale",
    type=_options.Finite(min=0),
    help="What if every residual branch were multiplied by this: x + scale f(x).",
)
@click.option(
    "--sweep",
    "sweeps",
    multiple=True,
    metavar="NAME=VALUES",
    help="Compare values of an argument: depth=12,24,48 or depth=5:100:20 (from:to:points); also "
    "of init, activation or residual-scale.",
)
@click.option("--figure", metavar="FILE", help="Draw the sweep: a .png or .svg (matplotlib).")
@_options.loss_option
@_options.batch_size
@click.option(
    "--explain",
    metavar="PATH",
    help="Show how the numbers of a module or site came about, operation by operation.",
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
    inits: tuple[str, ...],
    activations: tuple[str, ...],
    residual_scale: float | None,
    sweeps: tuple[str, ...],
    figure: str | None,
    loss: str | None,
    batch_size: int,
    explain: str | None,
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
    predictable, 2 bad input, also at a single value of a sweep.
    """
    # Every word is judged before anything runs: a typo must not cost the import of torch.
    place = _targets.locate(target)
    arguments = words.settings(settings)
    change = words.change(inits, activations, residual_scale)
    name, values = words.swept(sweeps, arguments)
    make_loss = _options.loss(loss)
    batch = words.batch(inputs, data, loss=loss, batch_size=batch_size, seed=seed)
    words.check_output(form, output, explain=explain, sweep=name, figure=figure, save=save)
    chosen: _predict.Chosen = {"select": _options.codes(select), "ignore": _options.codes(ignore)}

    with progress(f"loading {target}"):
        make = _predict.factory(place, arguments, name)
        network = _predict.Network(make, batch, change, make_loss(), training, seed)
    with progress("predicting") as tell:
        if name is not None:
            found = network.swept(name, values, tell)
        elif explain is not None:
            account = network.explained(explain)
        else:
            diagnosis = network.judged(**chosen)
    if name is not None:
        code = _predict.tell_sweep(found, form, output, figure, **chosen)
        return 0 if code == 1 and fail_on == "never" else code
    if explain is not None:
        _predict.tell_explanation(account, form, output)
        return 0
    if save is not None:
        from isograd import storage

        storage.save(save, diagnosis, target)
    _output.write(diagnosis, form, output, artifact=place.file)
    doubtful = diagnosis.reading.seen.fact("prediction.predictable") is False
    return int(doubtful and fail_on != "never") or _output.exit_code(diagnosis, fail_on)
