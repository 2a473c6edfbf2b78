"""Units that are off for every sample."""

import math
from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import Reading, Record
from isograd.rules._examples import reading
from isograd.rules._numbers import fact, show
from isograd.rules._profile import hidden_sites, names, needs, outcome, weighed
from isograd.rules._rates import lower
from isograd.rules._remembering import remembered
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule
from isograd.rules._watched import watched
from isograd.sites import ACTIVATIONS


@dataclass(frozen=True)
class _Layer:
    """One activation and its dead units."""

    site: int
    share: float
    expected: float
    units: float

    @property
    def walled(self) -> bool:
        """Whether nothing gets through."""
        return self.share >= 1.0


@dataclass(frozen=True)
class DeadUnits(Rule):
    """Units are dead: off for every sample of the batch.

    Sees: per hidden activation, the share of units (channels of a convolution) whose derivative is
        zero for every sample and position; and the share that chance explains there, from the
        number of samples and how alike they are at this depth.

    Matters: a unit that no sample switches on gets no gradient, so neither it nor its weights
        learn. It comes back only if the layers before it move. A layer in which all units are
        dead is a wall: nothing before it learns, and the output is a constant.

    Wrong when: the batch is small or the samples are alike, for then half of the units are off by
        chance; that share is allowed for. A unit that is off for one sample is not dead, it
        computes.

    Do: at the start: biases at zero, He initialization, or LeakyReLU, GELU or ELU in place of
        ReLU. When units die during the first steps: a smaller learning rate, or warm-up.
    """

    code: ClassVar[str] = "IG205"
    rank: ClassVar[int] = 63
    explains: ClassVar[tuple[str, ...]] = ("IG203", "IG207", "IG604", "IG609")

    many: float = 0.5
    """Beyond chance, this part of the layer's width was paid for and is not there. Networks that
    learn well with Adam or RMSprop lose up to a third of a layer within 300 steps."""
    most: float = 0.9
    """So few units left carry next to nothing of the signal."""
    died: float = 0.5
    """Rise of the share in a rehearsal that no ordinary training shows: a few percent die in
    three hundred healthy steps."""
    errors: float = 3.0
    """Standard errors of the share in a layer of so many units that are chance."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the first look, then what the rehearsal left."""
        seen = reading.seen
        layers = _layers(seen)
        if not layers:
            return needs(seen, "forward.dead") or NotApplicable(
                "no hidden layer has an activation whose units can die"
            )
        over = [layer for layer in layers if self._too_many(layer)]
        if over:
            return self._at_start(reading, over, len(layers))
        later = (
            None
            if watched(reading)
            else self._later(reading, {layer.site: layer.share for layer in layers})
        )
        worst = max(layers, key=lambda layer: layer.share)
        return later or Passed(
            f"at most {show(100 * worst.share)} % of a layer's units are dead, where chance "
            f"explains {show(100 * worst.expected)} %"
        )

    def _too_many(self, layer: _Layer) -> bool:
        if layer.walled or layer.share > self.most:
            return True
        noise = math.sqrt(max(layer.expected * (1 - layer.expected), 0.0) / max(layer.units, 1.0))
        return layer.share - layer.expected > max(self.many, self.errors * noise)

    def _at_start(self, reading: Reading, over: list[_Layer], count: int) -> Finding:
        seen = reading.seen
        worst = max(over, key=lambda layer: layer.share - layer.expected)
        name = seen.sites[worst.site].name
        severity = Severity.ERROR if worst.share > self.most else Severity.WARNING
        severity = weighed(severity, outcome(reading))
        return Finding(
            self.code,
            severity,
            "dead-units",
            f"{show(100 * worst.share)} % of the {int(worst.units)} units of {name} are off for "
            f"every sample, where chance explains {show(100 * worst.expected)} % ({len(over)} of "
            f"{count} layers have too many).",
            names(seen, [layer.site for layer in over]),
            {"dead": worst.share, "expected": worst.expected, "layers": len(over)},
            _revive(seen, worst.site),
            () if severity is Severity.INFO else self.explains,
        )

    def _later(self, reading: Reading, before: dict[int, float]) -> Finding | None:
        for record in reading.history:
            overflowed = any(n for _, n in record.pairs("forward.nonfinite"))
            if overflowed or tuple(record.sites) != tuple(reading.seen.sites):
                continue
            rises = {
                layer.site: layer.share - before.get(layer.site, 0.0)
                for layer in _layers(record)
                if layer.walled or layer.share - layer.expected > self.died
            }
            worst = max(rises, key=lambda i: rises[i], default=None)
            if worst is None or rises[worst] <= self.died:
                continue
            name, share = record.sites[worst].name, before[worst] + rises[worst]
            result = outcome(reading)
            severity = weighed(Severity.ERROR if share > self.most else Severity.WARNING, result)
            rate = fact(reading.seen, "optimizer.lr")
            told = f" at a learning rate of {show(rate)}" if rate is not None else ""
            return Finding(
                self.code,
                severity,
                "lr-too-high",
                f"After {record.step} steps{told} {show(100 * share)} % of the units of {name} are "
                f"dead; at the start it was {show(100 * before[worst])} %.",
                (name,),
                {"before": before[worst], "after": share, "step": record.step},
                (
                    f"{lower(reading)}, or warm it up over the first steps.",
                    "LeakyReLU or GELU units come back, but do not cure a step that is too large.",
                ),
                () if severity is Severity.INFO else self.explains,
            )
        return None

    @staticmethod
    def sick() -> Reading:
        """Biases so negative that 80 % of the units never switch on."""
        return _example(0.8)

    @staticmethod
    def well() -> Reading:
        """Zero biases."""
        return _example(0.02)


def chance_dead(correlation: float, samples: float) -> float:
    """Share of units that are off for all samples although nothing is wrong.

    Of `samples` centered Gaussians with pairwise correlation c, all are negative with probability
    E_z[Φ(-z √(c/(1-c)))^samples]: one half when the samples are alike.
    """
    c = min(max(correlation, 0.0), 1.0)
    if c >= 1.0:
        return 0.5
    lean = math.sqrt(c / (1 - c))
    # Trapezoids converge like exp(-2 (π width/step)^2), the width being that of the power's slope.
    step = max(0.1 / max(1.0, 2 * lean), 0.02)
    total, most = 0.0, math.ceil(8 / step)
    for k in range(-most, most + 1):
        z = k * step
        off = 0.5 * math.erfc(z * lean / math.sqrt(2))
        total += off**samples * math.exp(-z * z / 2)
    return total * step / math.sqrt(2 * math.pi)


@remembered
def _layers(record: Record) -> list[_Layer]:
    hidden = hidden_sites(record)
    size = fact(record, "batch.size")
    samples = size or 1.0
    layers = []
    for site, share in record.pairs("forward.dead"):
        if site not in hidden or record.sites[site].kind not in ACTIVATIONS:
            continue
        source = record.sites[site].inputs[:1]
        alike = record.value("forward.correlation", source[0]) if source else None
        known = alike is not None and math.isfinite(alike)
        single = size == 1 and len(record.sites[site].shape) <= 2  # half are off for it
        expected = chance_dead(alike or 0.0, samples) if known or single else 0.0
        units = record.value("forward.units", site) or 1.0
        layers.append(_Layer(site, share, expected, units))
    return layers


def _revive(record: Record, site: int) -> tuple[str, ...]:
    source = record.sites[site].inputs[:1]
    layer = record.sites[source[0]].name if source else "the layer before it"
    return (
        f"Set the bias of {layer} to zero and draw its weights with He's initialization "
        "(nn.init.kaiming_normal_).",
        f"Use nn.LeakyReLU(0.1), nn.GELU or nn.ELU for {record.sites[site].name}: their units "
        "keep a gradient when they are off.",
        f"Make {layer} wider, if it has only a few units.",
    )


def _example(share: float) -> Reading:
    series = {"forward.dead": share, "forward.units": 47.0, "forward.correlation": 0.3}
    return reading(4, series=series)
