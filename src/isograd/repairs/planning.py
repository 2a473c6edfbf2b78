"""The plan: which remedies the findings call for, the most promising first."""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace

from isograd.findings import Finding, Severity
from isograd.remedies import REMEDIES, Case, Plan, Remedy
from isograd.repairs.result import Skipped
from isograd.repairs.scoring import failed
from isograd.repairs.treatments import Treatment, treatment

OF_HIDDEN = ("IG204",)
"""Findings about the weights of hidden layers; where only their gain is remarked upon (IG302), it
may be the loss that starts too high all the same, unless that gain makes the outputs large."""
OF_ENDS = ("init-head", "init-embedding")
"""Remedies of the first or last layer alone."""
STATES = {"IG204": "saturating-activation", "IG205": "dead-units"}
"""What a finding says of the units, whatever its cause: that may be mended as well as the cause."""
NARROW = "narrow-layer"
"""A cause that is a mere remark where a network learns, and else is mended with the others."""


@dataclass(frozen=True)
class Candidates:
    """What could be tried, and what could not."""

    treatments: tuple[Treatment, ...]
    skipped: tuple[Skipped, ...]


def flagged(findings: Collection[Finding]) -> list[Finding]:
    """Findings of severity warning or above: what a repair is about."""
    return [f for f in findings if f.severity.reaches(Severity.WARNING)]


def candidates(case: Case, allow: Collection[str]) -> Candidates:
    """Every treatment that addresses a cause that was found.

    Causes come before the symptoms that they explain, the first finding before the second, and
    remedies that were made for a cause before those that help against it too.

    Args:
        case: the network and its diagnosis.
        allow: families of remedies that may be used.
    """
    found: list[Treatment] = []
    skipped: dict[str, str] = {}
    for cause, aside, pressing, remedy in _wanted(case):
        known = any(t.plans[0].remedy == remedy.code for t in found)
        if known and not aside:  # a later cause is the one that it was made for
            own = [t.plans[0].remedy == remedy.code for t in found]
            made = [_made_for(t, cause, pressing) for t in found]
            found = [new if is_own else t for t, new, is_own in zip(found, made, own, strict=True)]
        if known or remedy.code in skipped:
            continue
        if remedy.family not in allow:
            skipped[remedy.code] = f"changes of the family {remedy.family!r} are not allowed"
            continue
        plans, reason = _planned(remedy, case)
        if not plans:
            skipped[remedy.code] = reason
        for variant, plan in plans:
            same = [t for t in found if t.plans[0].script == plan.script]
            if same:  # two ways to one and the same change
                skipped[remedy.code] = f"it is the same change as {same[0].name} here"
            else:
                found.append(treatment(variant, plan, cause, aside=aside, pressing=pressing))
    return Candidates(
        tuple(_each_cause_first(_families_in_turn(_settings_last(found)), _roots(case))),
        tuple(Skipped(code, why) for code, why in skipped.items()),
    )


def settled(found: Sequence[Treatment], steps: int) -> tuple[list[Treatment], dict[str, str]]:
    """Treatments whose effect shows within some steps; of the others the next of the family.

    Args:
        found: in the order of promise.
        steps: of training that they have.

    Returns:
        Those treatments, and why others are none of them, by name.
    """
    able, dropped, waiting = list[Treatment](), dict[str, str](), list(found)
    while waiting:
        one = waiting.pop(0)
        if one.settles <= steps:
            able.append(one)
            continue
        heir = next((t for t in waiting if t.families == one.families), one)
        if heir in waiting:
            waiting.remove(heir)
            waiting.insert(0, heir)
        why = f"its effect shows after {one.settles} steps, which the budget does not allow"
        dropped[one.name] = f"not tried: {why}"
    return able, dropped


def _made_for(one: Treatment, cause: int, pressing: bool) -> Treatment:
    """A treatment of a cause that it was made for, where it stands for another one so far."""
    return replace(one, cause=cause, aside=False, pressing=pressing) if one.aside else one


def _causes(case: Case) -> dict[str, bool]:
    """What may have to be mended, the first first, and whether other changes cannot do without."""
    serious = flagged(case.findings)
    causes: dict[str, bool] = {}
    for finding in (*serious, *(s for f in serious for s in flagged(f.symptoms))):
        also = STATES.get(finding.code, finding.cause)
        for cause in (finding.cause, also):
            causes.setdefault(cause, finding.severity is Severity.ERROR)
    if any(f.cause == NARROW for f in case.findings):
        causes[NARROW] = True
    return causes


def _roots(case: Case) -> int:
    """How many causes were found none of which follows from another."""
    return len({f.cause for f in flagged(case.findings)})


def _wanted(case: Case) -> Iterator[tuple[int, bool, bool, Remedy]]:
    """(number of the cause, whether made for another, whether it presses, remedy), by promise.

    Made for a cause are those that name it as early as any other does: `optimizer-lr` was made for
    rates that are too low as well as for those that are too high.
    """
    hidden = any(f.code in OF_HIDDEN for f in flagged(case.findings)) or _hidden_grow(case)
    for place, (cause, pressing) in enumerate(_causes(case).items()):
        ranks = {r.code: r.addresses.index(cause) for r in REMEDIES if cause in r.addresses}
        if cause == "init-too-large" and hidden:
            ranks |= dict.fromkeys(OF_ENDS, len(REMEDIES))  # made for another place
        made_for = [r for r in REMEDIES if r.code in ranks]
        made_for.sort(key=lambda r: (ranks[r.code], r.invasive))
        for remedy in made_for:
            yield place, ranks[remedy.code] > min(ranks.values()), pressing, remedy


def _hidden_grow(case: Case) -> bool:
    """Whether the gain of the hidden weights makes up more than half of the outputs' size, in ln.

    A head of zeros would start well and meet the same growth in its gradient.
    """
    size = case.record.fact("output.rms")
    gains = [f.evidence.get("product") for f in case.findings if f.code == "IG302"]
    product = max((g for g in gains if g is not None), default=0.0)
    return isinstance(size, float) and product > 1 and product**2 > size


def _planned(remedy: Remedy, case: Case) -> tuple[list[tuple[Remedy, Plan]], str]:
    """Plans of a remedy and its variants that differ; the reason of the first where none fits."""
    plans: list[tuple[Remedy, Plan]] = []
    reasons: list[str] = []
    for variant in remedy.variants():
        try:
            plan = variant.plan(case)
        except Exception as error:  # one remedy that fails must not hide the others
            plan = f"the remedy itself failed: {failed(error)}"
        if isinstance(plan, str):
            reasons.append(plan)
        elif all(plan.script != other.script for _, other in plans):
            plans.append((variant, plan))
    return plans, (reasons or ["it has nothing to do"])[0]


def _families_in_turn(found: list[Treatment]) -> list[Treatment]:
    """The first of every family, then the second of every family, and so on.

    What one family cannot do another may; a race has room for a few candidates only.
    """
    seen: dict[tuple[str, ...], int] = {}
    ranks = []
    for one in found:
        ranks.append(seen.get(one.families, 0))
        seen[one.families] = ranks[-1] + 1
    order = sorted(range(len(found)), key=lambda i: (ranks[i], i))
    return [found[i] for i in order]


def _each_cause_first(found: list[Treatment], roots: int) -> list[Treatment]:
    """What was made for each cause before the second way against any of them.

    What mends raw inputs shows nothing while the targets are raw, and the other way round: the two
    go together, too; and so does the number format, in which raw targets overflow. They are put
    around the model, so that neither minds the other.
    """
    firsts: dict[int, Treatment] = {}
    for one in found:
        if not one.aside and (one.cause < roots or (_whole(one) and one.pressing)):
            firsts.setdefault(one.cause, one)
    if len(firsts) < 2:
        return found
    around = [t for t in firsts.values() if t.families == ("preprocessing",) or _whole(t)]
    both = [around[0].then(around[1])] if len(around) > 1 else []
    return both + sorted(found, key=lambda t: t is not firsts.get(t.cause))


def _whole(one: Treatment) -> bool:
    """Whether it changes the number format of the whole model."""
    return one.plans[0].remedy == "optimizer-precision"


def _settings_last(found: list[Treatment]) -> list[Treatment]:
    """The first setting of every remedy before the second of any."""
    firsts = {t.plans[0].remedy: t for t in reversed(found)}
    return sorted(found, key=lambda t: t is not firsts[t.plans[0].remedy])
