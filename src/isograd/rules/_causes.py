"""Why a signal is lost or grows over depth: read from the weights and the activations."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median
from typing import Any

from isograd.records import WEIGHT_KINDS, Record
from isograd.rules._graph import NORMS, readers
from isograd.rules._memory import forgetful
from isograd.rules._numbers import show
from isograd.rules._profile import hidden_sites
from isograd.rules._remembering import remembered
from isograd.sites import ACTIVATIONS
from isograd.sites.paths import unavoidable

SMALLEST_GAIN = 0.4
"""Below this no standard initializer starts: torch's own default, the smallest, has 0.577, and
0.4 is 30 % below that, more than any sampling error of a real layer."""

ALONE = 0.05
"""A single layer this far below the gain that fits loses a factor of 20 by itself."""

OVERSHOOT = 1.25
"""A gain this many times the one that fits is no rounding of it: 1.25^10 is a factor 9."""

NO_COMMON_GAIN = 1.5
"""Where the gains that keep signal and gradient differ by this, no initialization keeps both
(sigmoid 2.55, softplus 1.78; ReLU 1, tanh 0.92, GELU 0.97, SELU 0.97)."""

MATCH = 0.06
"""Relative distance at which a gain is a known one; LeCun and torch's default differ by 73 %, and
a layer of 1000 weights is known to 2 %."""

WALL = 0.9
"""Share of dead units from which a layer lets next to nothing through."""

_LAYERS_ALIKE = 0.7
"""Share of layers that must have the initializer's gain: heads are often set apart."""


@dataclass(frozen=True)
class Layer:
    """One weight layer whose output another weight layer reads."""

    site: int
    parameter: int
    gain: float
    fit: float | None
    """Gain that keeps the rms through the activation that follows."""
    fit_slope: float | None
    """Gain that keeps the gradient through it."""
    activation: str | None
    """Kind of the activation that follows."""
    normalized: bool
    """Whether a norm sets the scale before the next weight layer."""
    bypassed: bool
    """Whether a path from the input to the output goes around it, such as a skip connection."""


@dataclass(frozen=True)
class Cause:
    """What to fix, why, and how."""

    name: str
    because: str
    """One sentence with the numbers."""
    remedies: tuple[str, ...]
    evidence: Mapping[str, Any] = field(default_factory=dict)


@remembered
def hidden_layers(record: Record) -> list[Layer]:
    """The weight layers that feed another weight layer, with what follows them."""
    nexts, everywhere = readers(record), unavoidable(record)
    layers = []
    for site in record.weight_sites():
        weights = [
            p
            for p in record.sites[site].parameters
            if 0 <= p < len(record.parameters) and record.parameters[p].is_weight
        ]
        if not weights or record.sites[site].kind == "recurrent":
            continue  # what a state goes through again and again has no gain of a layer: IG504
        gain = record.value("weight.gain", weights[0])
        if gain is None or not math.isfinite(gain):
            continue
        kinds, hidden = _follows(record, nexts, site)
        if not hidden:
            continue
        activations = [k for k in kinds if k not in (*NORMS, "add")]
        layers.append(
            Layer(
                site,
                weights[0],
                gain,
                _usable(record.value("weight.gain_fit", weights[0])),
                _usable(record.value("weight.gain_slope", weights[0])),
                activations[0] if activations else None,
                any(k in NORMS for k in kinds),
                site not in everywhere,
            )
        )
    return layers


def _usable(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) and value > 0 else None


def _follows(record: Record, nexts: Sequence[Sequence[int]], site: int) -> tuple[list[str], bool]:
    """Kinds of the sites up to the next weight layers, and whether there is such a layer."""
    kinds: list[str] = []
    hidden, waiting, done = False, list(nexts[site]), set[int]()
    while waiting:
        here = waiting.pop(0)
        if here in done:
            continue
        done.add(here)
        kind = record.sites[here].kind
        if kind in WEIGHT_KINDS:
            hidden = True
            continue
        kinds.append(kind)
        if kind != "add":
            waiting.extend(nexts[here])
        elif nexts[here]:
            hidden = True
    return kinds, hidden


def initializer(record: Record, layers: Sequence[Layer]) -> str | None:
    """The known initializer that most of the layers were drawn from."""
    for name, gain_of in _INITIALIZERS.items():
        hits = 0
        for layer in layers:
            inputs = record.value("weight.fan_in", layer.parameter)
            outputs = record.value("weight.fan_out", layer.parameter)
            if not inputs or not outputs:
                continue
            error = MATCH + 2 / math.sqrt(max(inputs * outputs, 1.0))
            if abs(math.log(max(layer.gain, 1e-30) / gain_of(inputs, outputs))) < error:
                hits += 1
        if layers and hits >= _LAYERS_ALIKE * len(layers):
            return name
    return None


_INITIALIZERS: dict[str, Callable[[float, float], float]] = {
    "torch's default (U(±1/√fan_in))": lambda i, o: 1 / math.sqrt(3),  # noqa: ARG005
    "LeCun": lambda i, o: 1.0,  # noqa: ARG005
    "Xavier": lambda i, o: math.sqrt(2 * i / (i + o)),
    "He": lambda i, o: math.sqrt(2),  # noqa: ARG005
}


def typical(values: Sequence[float]) -> float:
    """The median; 0 of nothing."""
    return median(values) if values else 0.0


def why_lost(record: Record) -> Cause:
    """Why signal or gradient shrink over depth."""
    wall = _wall(record)
    if wall is not None:
        return wall
    layers = hidden_layers(record)
    plain = [x for x in layers if not x.normalized] or layers
    gain = typical([x.gain for x in plain])
    fit = typical([x.fit for x in plain if x.fit])
    found = {"gain": gain, "gain_fit": fit}
    if plain and gain < SMALLEST_GAIN:
        return Cause(
            "init-too-small",
            f"the weights start with a gain (rms·√fan_in) of {show(gain)}, "
            f"where {show(fit or 1.0)} would keep the signal",
            _set_gain(record, plain, fit or 1.0),
            found,
        )
    weak = [x for x in plain if not x.bypassed and x.gain < ALONE * (x.fit or 1.0)]
    if weak:
        name = record.parameters[weak[0].parameter].name
        return Cause(
            "init-too-small",
            f"{name} alone starts with a gain (rms·√fan_in) of {show(weak[0].gain)}, where "
            f"{show(weak[0].fit or 1.0)} would keep the signal",
            _set_gain(record, weak, weak[0].fit or 1.0),
            {**found, "gain": weak[0].gain, "parameter": name},
        )
    shared = [x for x in plain if x.activation == "softmax"]
    if len(shared) * 2 > len(plain):
        return _shared_out(record, shared, found)
    flat = [x for x in plain if _flattens(x)]
    if len(flat) * 2 > len(plain):
        return _flat(record, flat, found)
    squeezed = _squeezed(record)
    if squeezed is not None and gain > OVERSHOOT * max(fit, 1.0):
        return too_large(record, plain, gain, fit)
    if fit and gain < fit / OVERSHOOT:
        return mismatch(record, plain, gain, fit)
    if squeezed is not None:
        return _flat(record, plain, {**found, "slope": squeezed})
    short = forgetful(record)
    if short is not None:
        return _forgets(*short)
    if any(x.bypassed for x in layers) or not layers:
        fits = (
            "weights and activations fit, but" if layers else "no gain of its weights is known, and"
        )
        return Cause(
            "missing-normalization",
            f"{fits} nothing resets the scale along the way",
            ("Normalize between the layers (LayerNorm, or BatchNorm for large batches).",),
            found,
        )
    count = len(layers)
    return Cause(
        "missing-residual",
        f"the gain fits, but {count} layers in a row without a skip connection lose the signal",
        (
            "Add residual connections around every two or three layers, the last layer of each "
            "branch starting at zero.",
            "Or make the network shallower.",
        ),
        {**found, "layers": count},
    )


def _forgets(name: str, memory: float, steps: float) -> Cause:
    return Cause(
        "recurrent-jacobian",
        f"{name} remembers about {show(memory)} of its {show(steps)} time steps",
        (
            f"Give {name} a longer memory: forget gates that start open (a bias of ln T for T "
            "steps), or orthogonal weights.",
            "Or the early steps a shorter way: padding in front, packed sequences, pooling.",
        ),
        {"steps": steps, "memory": memory},
    )


def _wall(record: Record) -> Cause | None:
    """A hidden layer almost all of whose units are off for every sample."""
    hidden = hidden_sites(record)
    for site, share in record.pairs("forward.dead"):
        if site in hidden and record.sites[site].kind in ACTIVATIONS and share > WALL:
            name = record.sites[site].name
            return Cause(
                "dead-units",
                f"{show(100 * share)} % of the units of {name} are off for every sample",
                (
                    f"Bring {name} back to life: bias zero and He initialization before it, or "
                    "LeakyReLU in its place.",
                ),
                {"site": name, "dead": share},
            )
    return None


def _flattens(layer: Layer) -> bool:
    if not layer.fit or not layer.fit_slope or layer.activation is None:
        return False
    return layer.fit_slope > NO_COMMON_GAIN * layer.fit


def _squeezed(record: Record) -> float | None:
    """Ratio of measured to expected slope where activations run far out of their linear part."""
    expected = dict(record.pairs("forward.slope_theory"))
    ratios = [
        slope / expected[i]
        for i, slope in record.pairs("forward.slope")
        if expected.get(i) and record.value("forward.saturated", i)
    ]
    return typical(ratios) if ratios and typical(ratios) < 0.5 else None


def _shared_out(record: Record, layers: Sequence[Layer], found: Mapping[str, Any]) -> Cause:
    units = record.sites[layers[0].site].shape[-1:]
    among = f" among {units[0]} units" if units else ""
    return Cause(
        "saturating-activation",
        f"softmax stands between the layers: it shares a sum of 1 out{among}, so that signal and "
        "gradient are divided by about as many",
        ("Replace softmax in the hidden layers by ReLU, GELU or SiLU; only an output needs it.",),
        {**found, "activation": "softmax"},
    )


def _flat(record: Record, layers: Sequence[Layer], found: Mapping[str, Any]) -> Cause:
    kind = layers[0].activation or "activation"
    slopes = [s for i, s in record.pairs("forward.slope") if record.sites[i].kind == kind]
    slope = f", its slope here {show(typical(slopes))} (rms)" if slopes else ""
    return Cause(
        "saturating-activation",
        f"{kind} is flat where it is used{slope}: each of {len(layers)} layers passes on only "
        "that part of the gradient, times the gain of its weights "
        f"({show(typical([x.gain for x in layers]))})",
        (
            f"Replace {kind} in the hidden layers by ReLU, GELU or SiLU, with "
            "nn.init.kaiming_normal_ for the weights.",
            f"Or put a normalization (BatchNorm, LayerNorm) between each linear layer and {kind}.",
        ),
        {**found, "activation": kind, "slope": typical(slopes) if slopes else None},
    )


def mismatch(record: Record, layers: Sequence[Layer], gain: float, fit: float) -> Cause:
    """The weights come from an initializer made for another activation."""
    name = initializer(record, layers)
    kind = typical_kind(layers)
    own = kind == "exp"  # of a function that nobody knows: what fits is for a linear layer
    whose = f", that of {name}," if name else ""
    return Cause(
        "gain-mismatch",
        f"the weights have a gain (rms·√fan_in) of {show(gain)}{whose} while "
        f"{'a linear layer' if own or not kind else kind} needs {show(fit)}"
        + (f" (what the {kind} behind it asks for is not known)" if own else ""),
        _set_gain(record, layers, fit),
        {"gain": gain, "gain_fit": fit, "initializer": name, "activation": kind},
    )


def too_large(record: Record, layers: Sequence[Layer], gain: float, fit: float) -> Cause:
    """The weights start larger than any activation needs."""
    return Cause(
        "init-too-large",
        f"the weights start with a gain (rms·√fan_in) of {show(gain)}, "
        f"{show(gain / (fit or 1.0))} times the {show(fit or 1.0)} that keeps the signal",
        _set_gain(record, layers, fit or 1.0),
        {"gain": gain, "gain_fit": fit},
    )


def why_grows(record: Record) -> Cause:
    """Why signal or gradient grow over depth."""
    layers = hidden_layers(record)
    plain = [x for x in layers if not x.normalized] or layers
    exponential = [s.name for s in record.sites if s.kind == "exp"]
    gain = typical([x.gain for x in plain])
    fit = typical([x.fit for x in plain if x.fit]) or 1.0
    if exponential:
        return Cause(
            "exploding-activation",
            f"{exponential[0]} grows exponentially with its input",
            (f"Replace {exponential[0]} by an activation that grows linearly or not at all.",),
            {"sites": exponential},
        )
    if plain and any(x.bypassed for x in plain) and gain <= 2 * fit:
        return Cause(
            "unscaled-residual",
            "every residual addition adds a branch as large as the stream, and nothing scales "
            "or normalizes it",
            UNSCALED,
            {"gain": gain},
        )
    if gain > fit:
        known = initializer(record, plain)
        if known is not None and gain < 2 * fit:
            return mismatch(record, plain, gain, fit)
        return too_large(record, plain, gain, fit)
    return Cause(
        "missing-normalization",
        "the gain of the weights fits, but nothing resets the scale along the way",
        ("Normalize between the layers (LayerNorm, or BatchNorm for large batches).",),
        {"gain": gain, "gain_fit": fit},
    )


UNSCALED = (
    "Start the last layer of every branch at zero: nn.init.zeros_(block.last.weight).",
    "Or multiply each branch by 1/√(number of blocks), or by a learned scalar that starts at 0.",
    "Or normalize the input of each branch (LayerNorm or BatchNorm before its first layer).",
)
"""What to do about residual branches that add up."""


def typical_kind(layers: Sequence[Layer]) -> str | None:
    """The activation that follows most layers."""
    kinds = [x.activation for x in layers if x.activation]
    return max(kinds, key=kinds.count, default=None)


def _set_gain(record: Record, layers: Sequence[Layer], fit: float) -> tuple[str, ...]:
    kind = typical_kind(layers)
    if kind in ("relu", "leaky_relu", "prelu", "relu6"):
        how = "nn.init.kaiming_normal_(layer.weight, nonlinearity='relu')"
    else:
        how = f"nn.init.normal_(layer.weight, std={show(fit)} / fan_in ** 0.5)"
    first = record.parameters[layers[0].parameter].name
    last = record.parameters[layers[-1].parameter].name
    return (
        f"Initialize the {len(layers)} hidden weights ({first} … {last}) with gain {show(fit)}: "
        f"{how}, biases zero.",
        "Or put a normalization (BatchNorm, LayerNorm) after each of these layers.",
    )
