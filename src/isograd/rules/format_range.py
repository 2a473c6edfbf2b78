"""What a narrow number format would lose."""

from dataclasses import dataclass
from typing import ClassVar

from isograd.findings import Finding, Severity
from isograd.records import EXPONENTS, Reading, Record
from isograd.rules._examples import chain
from isograd.rules._formats import format_of
from isograd.rules._rule import NotApplicable, Outcome, Passed, Rule

_NARROW = {"float16": "fp16", "bfloat16": "bf16"}


@dataclass(frozen=True)
class _Loss:
    """The largest share of a site's values that leaves a format."""

    share: float
    site: str
    way: str
    values: str
    end: str
    """What happens to them there."""


@dataclass(frozen=True)
class FormatRange(Rule):
    """Values leave the range of the number format.

    Sees: from the histogram of binary exponents, which share of a site's non-zero outputs or
        gradients lies below the smallest or above the largest number of float16, bfloat16 and
        float8. In a model that computes in half precision, values that have vanished already
        cannot be counted; there the rule counts those with almost no digits left.

    Matters: a gradient entry that underflows is zero, and its weight stands still although
        the loss says otherwise; an overflow becomes an infinity and then a NaN. Float16 ends at
        6e-8 and 65504, so gradients of a mean over a large batch fall out of it easily; bfloat16
        has the range of float32 and only few digits.

    Wrong when: training scales the loss or keeps tensors with scales of their own; both are
        applied outside of what is measured here.

    Do: use torch.amp with a GradScaler for float16, or bfloat16 on hardware that has it; keep the
        layers named in float32. A model in float32 needs nothing.
    """

    code: ClassVar[str] = "IG402"
    rank: ClassVar[int] = 70

    lost: float = 0.05
    """Share of a site's values; when one entry in twenty is lost the update's direction is
    still good, beyond that it is not."""
    would_lose: float = 0.25
    """The same for a format the model does not use yet: only worth a remark when it is plain."""
    digits: int = 4
    """Binary digits below which a subnormal number counts as lost: at 4 it is rounded by 6 %."""

    def judge(self, reading: Reading) -> Outcome:
        """Judges the format in use; float16 where that is wider."""
        seen = reading.seen
        name = _NARROW.get(format_of(seen).name)
        worst = self._worst(seen, name or "fp16", in_use=name is not None)
        if worst is None:
            return NotApplicable(
                "the record holds no shares of values out of range (measure() adds them)"
            )
        allowed = self.would_lose if name is None else self.lost
        if worst.share <= allowed:
            return Passed(
                f"at most {worst.share:.1%} of a site's values leave {name or 'fp16'} "
                f"({worst.values} that {worst.end} at {worst.site})"
            )
        return self._finding(worst, name)

    def _worst(self, seen: Record, name: str, *, in_use: bool) -> _Loss | None:
        found: list[_Loss] = []
        scaled = seen.fact("watch.scale") is not None  # then gradients are larger than they look
        for way, values in (("forward", "outputs"), ("backward", "gradients"))[: 2 - scaled]:
            for end in ("underflow", "overflow"):
                for index, share in seen.pairs(f"{way}.share_{name}_{end}"):
                    found.append(_Loss(share, seen.sites[index].name, way, values, end))
        if in_use and not scaled:
            found.extend(self._blurred(seen))
        return max(found, key=lambda loss: loss.share, default=None)

    def _blurred(self, seen: Record) -> list[_Loss]:
        """Gradients that are still there, but with too few digits."""
        lowest = EXPONENTS.index(format_of(seen).smallest_exponent)
        columns = seen.histograms.get("backward.exponents", ((),) * len(seen.sites))
        found = []
        for site, counts in zip(seen.sites, columns, strict=True):
            total = sum(counts)
            low = sum(counts[: lowest + self.digits])
            if total:
                end = f"keep fewer than {self.digits} binary digits"
                found.append(_Loss(low / total, site.name, "backward", "gradients", end))
        return found

    def _finding(self, worst: _Loss, name: str | None) -> Finding:
        fine = name is None
        return Finding(
            self.code,
            Severity.INFO if fine else Severity.WARNING,
            "precision",
            f"In {name}, the model's own format, {worst.share:.0%} of the {worst.values} at "
            f"{worst.site} {worst.end}."
            if name
            else f"In fp16, {worst.share:.0%} of the {worst.values} at {worst.site} would "
            f"{worst.end}; float32 and bfloat16 hold them.",
            sites=(worst.site,),
            evidence={"share": worst.share, "direction": worst.way, "format": name or "fp16"},
            remedies=(
                "Should you train in float16, use torch.amp with a GradScaler, or take bfloat16."
                if fine
                else f"Scale the loss (torch.amp.GradScaler) or compute {worst.site} in float32.",
            ),
        )

    @staticmethod
    def sick() -> Reading:
        """A float16 model whose gradients of the first layer have no digits left."""
        return _half(lowest=-23)

    @staticmethod
    def well() -> Reading:
        """The same with gradients in the middle of the range."""
        return _half(lowest=-12)


def _half(*, lowest: int) -> Reading:
    look = chain(
        3,
        series={"backward.share_fp16_underflow": 0.0, "forward.share_fp16_overflow": 0.0},
        facts={"model.dtype": "torch.float16"},
    )
    counts = tuple(10 * (lowest <= e < lowest + 3) for e in EXPONENTS)
    return Reading(
        Record(
            look.sites,
            look.parameters,
            look.series,
            {"backward.exponents": (counts,) * len(look.sites)},
            look.facts,
        )
    )
