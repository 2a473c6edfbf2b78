"""Diagnoses made by hand: sick, healthy, empty, deep and hostile ones."""

import math
from dataclasses import replace

from isograd.findings import Diagnosis, Finding, Severity, Verdict
from isograd.records import EXPONENTS, Parameter, Reading, Record, Site
from isograd.rules._examples import chain, with_history

HOSTILE = '<script>alert("x")</script>&\'|`@who`\x1b[31m\u202e'
"""A name that tries to leave every form it is put in."""


def bell(center: float, width: float = 2.5) -> tuple[int, ...]:
    """A histogram of exponents around 2^center."""
    return tuple(round(4000 * math.exp(-(((e - center) / width) ** 2))) for e in EXPONENTS)


def with_histograms(record: Record) -> Record:
    """The same record with histograms that follow its rms."""
    found = {}
    for way in ("forward", "backward"):
        rms = record.series.get(f"{way}.rms", ())
        found[f"{way}.exponents"] = tuple(
            bell(math.log2(x)) if x is not None and math.isfinite(x) and x > 0 else bell(0, 0.1)
            for x in rms
        )
    return replace(record, histograms=found)


def network(depth: int, forward: float, backward: float, activation: str = "sigmoid") -> Record:
    """A chain whose rms changes by these factors per layer, there and back."""
    back = [1e-3 * backward ** (depth - 1 - i) for i in range(depth)]
    record = chain(
        depth,
        activation=activation,
        series={
            "forward.rms": [0.9 * forward**i * (1 + 0.1 * math.sin(7 * i)) for i in range(depth)],
            "forward.mean": [0.5 * (-1) ** i for i in range(depth)],
            "forward.spread": [0.8 * 0.5**i for i in range(depth)],
            "forward.correlation": [1 - 0.5**i for i in range(depth)],
            "forward.saturated": [min(0.03 * i, 1.0) for i in range(depth)],
            "forward.nonfinite": 0,
            "backward.rms": back,
            "backward.band": [0.02 * (depth - i) for i in range(depth)],
            "forward.band": [0.02 * i for i in range(depth)],
            "weight.gain": 0.577,
            "weight.gain_fit": 1.0,
            "weight.rms": 0.08,
        },
        facts={
            "model.name": "DigitsClassifier",
            "model.parameters": 31337,
            "model.training": True,
            "batch.shape": (16, 48),
            "batch.rms": 0.93,
            "loss.name": "cross_entropy",
            "loss.value": 2.3401,
            "loss.chance": math.log(10),
            "loss.chosen": True,
            "target.classes": 10,
        },
    )
    return with_histograms(record)


VERDICTS = (
    Verdict("IG101", "finding", "the gradient shrinks"),
    Verdict("IG102", "passed", "no weight layer multiplies the gradient by more than 1.1"),
    Verdict("IG201", "finding", "units are saturated"),
    Verdict(
        "IG301", "not-applicable", "no optimizer was given (check(..., optimizer=...) adds it)"
    ),
    Verdict(
        "IG302", "not-applicable", "no optimizer was given (check(..., optimizer=...) adds it)"
    ),
    Verdict("IG503", "not-applicable", "the network has no recurrent layer"),
    Verdict("IG601", "ignored", "not selected"),
    Verdict("IG999", "failed", "the rule itself failed: KeyError: 'x'"),
)


def sick_findings() -> tuple[Finding, ...]:
    symptom = Finding(
        "IG201",
        Severity.WARNING,
        "saturating-activation",
        "Up to 54 % of the entries of 9 sigmoids lie where the derivative is below 5 % of its "
        "largest value.",
        ("acts.17", "acts.18"),
    )
    return (
        Finding(
            "IG101",
            Severity.ERROR,
            "gain-mismatch",
            "The gradient shrinks by a factor 0.24 per weight layer, from 1.0e-03 at the loss to "
            "1.7e-15 at the first layer: the first layers do not learn. Theory expects a drift of "
            "0.4 in ln rms from finite width; this one is 27.",
            tuple(f"layers.{i}" for i in range(20)),
            {
                "rate_per_layer": 0.24,
                "band": 0.4,
                "first_rms": 1.7e-15,
                "layers": 20,
                "worst": ["layers.0", "layers.1", "layers.2", "layers.3", "layers.4"],
                "never": math.nan,
                "seventh": "is left out",
            },
            (
                "Replace the sigmoids by ReLU and initialize with gain sqrt(2): "
                "torch.nn.init.kaiming_normal_(layer.weight).",
                "Or add residual connections around every second layer.",
            ),
            ("IG201",),
            (symptom,),
        ),
        Finding(
            "IG412",
            Severity.WARNING,
            "precision",
            "61 % of the gradient entries of layers.0 underflow in fp16.",
            ("layers.0.weight",),
            {"share": 0.61, "format": "fp16"},
            ("Train in bf16, or scale the loss.",),
        ),
        Finding("IG777", Severity.INFO, "data-bug", "The batch holds one class only."),
    )


def make_sick(depth: int = 20) -> Diagnosis:
    """Vanishing gradients, with a rehearsal and notes."""
    first = replace(
        network(depth, 0.97, 0.24),
        notes=(
            "loss: cross_entropy, because the targets are whole numbers and the outputs have "
            "10 columns",
            "mode: the model is in training mode, as it was handed in",
        ),
    )
    later = network(depth, 0.95, 0.3)
    reading = with_history(
        first,
        replace(later, step=10),
        replace(later, step=50),
        losses=[2.31 - 0.01 * i * (1 + 0.3 * math.sin(i)) / (1 + 0.05 * i) for i in range(50)],
    )
    return Diagnosis(sick_findings(), VERDICTS, replace(reading, expected=network(depth, 1, 0.25)))


def make_healthy() -> Diagnosis:
    """Nothing to say."""
    record = network(12, 1.01, 0.98, "relu")
    return Diagnosis((), (Verdict("IG101", "passed", "slope 0.98 per layer"),), Reading(record))


def make_empty() -> Diagnosis:
    """A record without a single number."""
    return Diagnosis((), (), Reading(Record(())))


def make_deep(sites: int = 800) -> Diagnosis:
    """A network of many sites with long names."""
    sick = make_sick(sites // 2)
    seen = sick.reading.seen
    names = tuple(
        replace(site, name=f"transformer.decoder.blocks.{i // 8}.part{i % 8}.{site.name}")
        for i, site in enumerate(seen.sites)
    )
    return replace(sick, reading=Reading(replace(seen, sites=names)))


def make_hostile() -> Diagnosis:
    """Names and words that try to break out, and numbers that are none."""
    odd = (math.nan, math.inf, -math.inf, None, 0.0, 1e-300, 1e300)
    sites = tuple(
        Site(f"{HOSTILE}.{i}", "linear", HOSTILE, i + 1, (2, 3), (i - 1,) if i else (), (i,))
        for i in range(7)
    )
    parameters = tuple(Parameter(f"{HOSTILE}.{i}.weight", (3, 3), "linear") for i in range(7))
    record = Record(
        sites,
        parameters,
        {
            "forward.rms": odd,
            "backward.rms": odd[::-1],
            "backward.band": odd,
            "weight.gain": odd,
            "forward.nonfinite": (3, None, 0, 0, 0, 0, 0),
        },
        {"forward.exponents": tuple(() if i == 3 else bell(i) for i in range(7))},
        {"model.name": HOSTILE, "loss.value": math.nan, HOSTILE: HOSTILE, "loss.name": HOSTILE},
        (HOSTILE,),
    )
    finding = Finding(
        "IG000",
        Severity.ERROR,
        "local-nan",
        HOSTILE,
        (f"{HOSTILE}.0", f"{HOSTILE}.0.weight", "gone"),
        {HOSTILE: HOSTILE, "odd": odd},
        (HOSTILE,),
        symptoms=(Finding("IG001", Severity.INFO, "local-nan", HOSTILE),),
    )
    verdicts = (Verdict("IG000", "finding", HOSTILE), Verdict("IG002", "not-applicable", HOSTILE))
    last = replace(record, facts={"rehearsal.losses": odd, "rehearsal.stopped": HOSTILE}, step=3)
    return Diagnosis((finding,), verdicts, Reading(record, history=(last,)))


MAKERS = {
    "sick": make_sick,
    "healthy": make_healthy,
    "empty": make_empty,
    "deep": make_deep,
    "hostile": make_hostile,
}
