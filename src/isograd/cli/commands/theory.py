"""`isograd theory`: signal and gradient in wide networks of any activation, by theory."""

from collections.abc import Callable
from typing import Any

import click

from isograd.cli import _output, _theory
from isograd.cli import _theory_words as words
from isograd.cli._options import Finite
from isograd.errors import InputError

EXAMPLE = """\
\b
Examples:
  isograd theory phase tanh --weight-var 1.5 --bias-var 0.05
  isograd theory critical gelu --bias-var 0.2
  isograd theory gains --all
  isograd theory diagram tanh --figure phases.png
  isograd theory spectrum tanh --depth 20 --weights orthogonal
  isograd theory transform leaky_relu --method tat --depth 50
"""

ACTIVATION = """\
ACTIVATION is a name of torch (tanh, gelu, LeakyReLU), or file.py:name or package.module:name of a
module, its class, or any elementwise function."""

_argument = click.argument("activation")
_param = click.option(
    "--param",
    "params",
    multiple=True,
    metavar="NAME=VALUE",
    help="A parameter of the activation: negative_slope=0.2. May be repeated.",
)
_weight_var = click.option(
    "--weight-var",
    type=Finite(min=0, min_open=True),
    help="sigma_w^2: weights have this variance over fan_in.",
)
_bias_var = click.option(
    "--bias-var",
    type=Finite(min=0),
    default=0.0,
    show_default=True,
    help="sigma_b^2: variance of the biases.",
)
_depth = click.option("--depth", type=click.IntRange(min=1), required=True, help="Layers.")
_form = click.option(
    "--format", "form", type=click.Choice(_theory.FORMS), default="text", show_default=True
)
_figure = click.option(
    "--figure", metavar="FILE", help="Draw it too: FILE.png or FILE.svg; needs matplotlib."
)

Command = Callable[..., None]


@click.group(short_help="Predict signal and gradient of any activation.", epilog=EXAMPLE)
def command() -> None:
    """Say what depth does to signal and gradient in a wide network, for any activation.

    Mean-field theory: independent weights of variance sigma_w^2 / fan_in, biases of variance
    sigma_b^2, no training yet. docs/theory.md explains every number.
    """


def _subcommand(name: str, about: str, example: str, *options: Any) -> Callable[[Command], Any]:
    """A subcommand with an example; its options in the order of its help."""

    def decorate(function: Command) -> Any:
        for option in reversed(options):
            function = option(function)
        epilog = f"{ACTIVATION}\n\n\b\nExample:\n  isograd theory {name} {example}\n"
        return command.command(name, short_help=about, epilog=epilog)(function)

    return decorate


@_subcommand(
    "phase",
    "Ordered, critical or chaotic? With depth scales.",
    "tanh --weight-var 2.5 --bias-var 0.05",
    _argument,
    _weight_var,
    _bias_var,
    _param,
    _form,
    _figure,
)
def phase(
    activation: str,
    weight_var: float | None,
    bias_var: float,
    params: tuple[str, ...],
    form: str,
    figure: str | None,
) -> None:
    """Say where depth leads the length of a signal and the angle between two."""
    if weight_var is None:
        raise InputError(
            "--weight-var is missing; 2 is what He's initialization has, 1 LeCun's, 0.333 "
            "torch's nn.Linear"
        )
    _check_figure(figure)
    act = _theory.activation(activation, params)
    from isograd import theory

    found = theory.phase(act, weight_var=weight_var, bias_var=bias_var)
    if figure is not None:
        from isograd.cli import _theory_figures

        _draw(figure, _theory_figures.correlations(act, ((weight_var, bias_var),)))
    where = _theory.setting(act.name, weight_var=weight_var, bias_var=bias_var)
    row = {"activation": act.name, "weight_var": weight_var, "bias_var": bias_var}
    _theory.tell(form, f"{where}:\n{found.reason}", {**row, **_theory.fields(found)}, words.PHASE)


@_subcommand(
    "critical",
    "The initialization that keeps gradients, with a verdict.",
    "gelu --bias-var 0.2",
    _argument,
    _bias_var,
    click.option("--line", is_flag=True, help="The whole critical line, by length."),
    _param,
    _form,
    _figure,
)
def critical(
    activation: str,
    bias_var: float,
    line: bool,
    params: tuple[str, ...],
    form: str,
    figure: str | None,
) -> None:
    """Say at which weight variance gradients neither vanish nor explode, and whether it holds."""
    _check_figure(figure)
    act = _theory.activation(activation, params)
    from isograd import theory

    found = theory.critical(act, bias_var=bias_var)
    if figure is not None:
        from isograd.cli import _theory_figures

        _draw(figure, _theory_figures.critical_line(act, bias_var))
    if line:
        _theory.tell_line(form, act.name, _theory.fields(theory.critical_line(act)))
    else:
        where = _theory.setting(act.name, bias_var=bias_var)
        row = {"activation": act.name, **_theory.fields(found)}
        _theory.tell(form, f"{where}: {found.verdict}\n{found.reason}", row, words.CRITICAL)


@_subcommand(
    "gains",
    "Gains of one activation, or of --all.",
    "gelu",
    click.argument("activation", required=False),
    click.option("--all", "every", is_flag=True, help="The table of all activations."),
    _param,
    _form,
    _figure,
)
def gains(
    activation: str | None, every: bool, params: tuple[str, ...], form: str, figure: str | None
) -> None:
    """Show the factors on the weights that keep signal or gradient, for an input of variance 1."""
    if every == (activation is not None):
        raise InputError("gains wants either one ACTIVATION or --all")
    if every and params:
        raise InputError("--param belongs to one activation, not to --all")
    _check_figure(figure)
    if activation is None:
        if figure is not None:
            from isograd.cli import _theory_figures

            _draw(figure, _theory_figures.gain_table())
        _theory.tell_gains(form)
        return
    act = _theory.activation(activation, params)
    from isograd import theory

    found = theory.gains(act)
    if figure is not None:
        from isograd.cli import _theory_figures

        _draw(figure, _theory_figures.gains(act, found))
    headline = (
        f"{act.name}: gain {found.second_moment:.6g} keeps the signal, {found.slope:.6g} the "
        f"gradient, for an input of variance 1"
    )
    if found.torch_gain is not None:
        headline += f"\ntorch: {found.remark}"
    _theory.tell(form, headline, {"activation": act.name, **_theory.fields(found)}, words.GAINS)


@_subcommand(
    "diagram",
    "The phase over a grid of weight and bias variances.",
    "tanh --weight-var 0.5:4 --bias-var 0:1 --figure phases.png",
    _argument,
    click.option(
        "--weight-var",
        "weight_range",
        default="0.5:4",
        show_default=True,
        metavar="FROM:TO[:POINTS]",
        help="sigma_w^2; 80 points where none are said.",
    ),
    click.option(
        "--bias-var",
        "bias_range",
        default="0:1",
        show_default=True,
        metavar="FROM:TO[:POINTS]",
        help="sigma_b^2, likewise.",
    ),
    _param,
    _form,
    _figure,
)
def diagram(
    activation: str,
    weight_range: str,
    bias_range: str,
    params: tuple[str, ...],
    form: str,
    figure: str | None,
) -> None:
    """Map order and chaos; --format csv has one line per point."""
    _check_figure(figure)
    spans = _theory.span(weight_range, "--weight-var"), _theory.span(bias_range, "--bias-var")
    act = _theory.activation(activation, params)
    import numpy as np

    from isograd import theory

    found = theory.phase_diagram(act, *(np.linspace(*one) for one in spans))
    if figure is not None:
        from isograd.cli import _theory_figures

        _draw(figure, _theory_figures.phase_diagram(act, found))
    if form == "text":
        _theory.tell_map(act.name, found.weight_vars, found.bias_vars, found.phase)
    elif form == "json":
        _theory.tell_json(_theory.fields(found))
    else:
        _theory.tell_csv(_theory.grid(_theory.fields(found)))


@_subcommand(
    "spectrum",
    "Singular values of the input-output Jacobian.",
    "tanh --depth 20 --weights orthogonal --bias-var 0.01",
    _argument,
    _depth,
    click.option(
        "--weights",
        type=click.Choice(["gaussian", "orthogonal"]),
        default="gaussian",
        show_default=True,
    ),
    _weight_var,
    _bias_var,
    _param,
    _form,
    _figure,
)
def spectrum(
    activation: str,
    depth: int,
    weights: Any,
    weight_var: float | None,
    bias_var: float,
    params: tuple[str, ...],
    form: str,
    figure: str | None,
) -> None:
    """Say how unequally a deep network treats the directions of its input.

    Without --weight-var, at the critical point. The figure shows both kinds of weights.
    """
    _check_figure(figure)
    act = _theory.activation(activation, params)
    from isograd.theory.spectrum import spectrum

    found = spectrum(act, depth, weights=weights, weight_var=weight_var, bias_var=bias_var)
    if figure is not None:
        from isograd.cli import _theory_figures

        _draw(figure, _theory_figures.spectra(act, depth, weight_var, bias_var))
    row = {"activation": act.name, **_theory.fields(found)}
    _theory.tell(
        form, f"{act.name}, {depth} layers, {weights} weights:\n{found.reason}", row, words.SPECTRUM
    )


@_subcommand(
    "transform",
    "Constants that make plain deep networks trainable.",
    "leaky_relu --method tat --depth 50",
    _argument,
    _depth,
    click.option("--method", type=click.Choice(["dks", "tat"]), default="dks", show_default=True),
    _param,
    _form,
    _figure,
)
def transform(
    activation: str,
    depth: int,
    method: Any,
    params: tuple[str, ...],
    form: str,
    figure: str | None,
) -> None:
    """Shape an activation for a depth: deep kernel shaping (dks) or tailored rectifiers (tat)."""
    _check_figure(figure)
    act = _theory.activation(activation, params)
    from isograd.theory.transforms import transform

    found = transform(act, method, depth=depth)
    if figure is not None:
        from isograd.cli import _theory_figures

        _draw(figure, _theory_figures.transform(act, found))
    headline = (
        f"{act.name}, {method} for {depth} layers:\n"
        "output_scale * (phi(input_scale * x + input_shift) + output_shift)"
    )
    row = {"activation": act.name, **_theory.fields(found)}
    shown = {key: text for key, text in words.TRANSFORM.items() if row[key] is not None}
    _theory.tell(form, headline, row, shown)


def _check_figure(figure: str | None) -> None:
    if figure is not None:
        from isograd.reporting import theory_figures

        _output.check_file(figure)
        theory_figures.check(figure)


def _draw(path: str, figure: Any) -> None:
    from isograd.reporting import theory_figures

    theory_figures.save(figure, path)
    click.echo(f"wrote {path}", err=True)
