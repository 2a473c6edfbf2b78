"""check_rule(), check_remedy(), check_sink(): the contracts of entries, for third parties' too."""

import copy
import dataclasses
import io
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from isograd.errors import CatalogueError
from isograd.findings import CAUSES, Finding, Severity
from isograd.records import EXPONENTS, Number, Parameter, Reading, Record, Site
from isograd.rules import RULES, NotApplicable, Outcome, Passed, Rule
from isograd.rules._rule import HEADINGS
from isograd.sinks._contract import check_sink

if TYPE_CHECKING:
    from torch import nn

    from isograd.remedies import Case, Plan, Remedy

__all__ = ["check_remedy", "check_rule", "check_sink"]

_RANKS = range(71)
_TITLE = 80
"""Longest title, in characters: it stands in a list of all rules."""
_WORDS = 6
"""Fewest words under a heading: fewer answer no question."""
_REASON = 5
"""Fewest words of a threshold's reason."""


def check_rule(rule: Rule, *, further: Iterable[Reading] = ()) -> None:
    """Runs a rule through everything that a rule has to be; one line in a test is enough.

    It names itself; its docstring answers the four questions; every threshold gives its reason
    and decides something; it finds its `sick` reading and passes its `well` one, with numbers; it
    never raises, whatever a record holds, and is silent where nothing was measured.

    Args:
        rule: an instance with its default thresholds.
        further: readings in which thresholds decide that `sick` and `well` do not reach.

    Raises:
        CatalogueError: everything that is broken.
    """
    if not isinstance(rule, Rule):
        raise CatalogueError(
            f"check_rule: expected an instance of a Rule, found {rule!r}; "
            "derive it from isograd.rules.Rule and make one"
        )
    readings = tuple(further)
    broken = [*_name(rule), *_words(rule), *_reasons(rule)]
    broken += [*_sick(rule), *_well(rule), *_explained(rule, readings), *_robust(rule)]
    if not broken:  # thresholds of a rule that does not work decide nothing
        broken += _decided(rule, readings)
    if broken:
        raise CatalogueError(
            f"{type(rule).__name__} breaks the contract of rules: {'; '.join(broken)}"
        )


def _name(rule: Rule) -> Iterator[str]:
    code, rank = getattr(rule, "code", None), getattr(rule, "rank", None)
    if not isinstance(code, str) or not re.fullmatch(r"IG\d{3}", code):
        yield f"code is {code!r}, not IG and three digits"
    taken = [type(r).__name__ for r in RULES if r.code == code and type(r) is not type(rule)]
    if taken:
        yield f"code {code} is {taken[0]}'s already"
    if not isinstance(rank, int) or rank not in _RANKS:
        yield f"rank is {rank!r}, not a whole number from 0 to {_RANKS[-1]}"
    made = getattr(type(rule), "__dataclass_params__", None)
    if made is None or not made.frozen:
        yield "it is no frozen dataclass"
    for field in dataclasses.fields(rule):  # type: ignore[arg-type]  # any rule inherits none
        if field.default is dataclasses.MISSING:
            yield f"threshold {field.name} has no default"


def _words(rule: Rule) -> Iterator[str]:
    if not (type(rule).__doc__ or "").strip():
        yield "it has no docstring"
        return
    title, sections = rule.title(), rule.sections()
    if not title or len(title) > _TITLE:
        yield f"the docstring's first line has {len(title)} characters, not 1 to {_TITLE}"
    if tuple(sections) != HEADINGS:
        yield f"the docstring's headings are {', '.join(sections) or 'none'}, not " + ", ".join(
            HEADINGS
        )
    for heading, text in sections.items():
        if len(text.split()) < _WORDS or not text.endswith("."):
            yield f"the docstring's {heading!r} is no sentence: {text!r}"


def _reasons(rule: Rule) -> Iterator[str]:
    reasons = {name: reason for name, _, reason in rule.thresholds()}
    for field in dataclasses.fields(rule):  # type: ignore[arg-type]  # as above
        if len(reasons.get(field.name, "").split()) < _REASON:
            yield f"threshold {field.name} has no docstring below it that gives the reason"


def _sick(rule: Rule) -> Iterator[str]:
    reading = rule.sick()
    found = _judged(rule, reading)
    if not isinstance(found, Finding):
        yield f"its sick reading gets no finding but {found}"
        return
    if found.code != rule.code:
        yield f"its finding has the code {found.code!r}"
    if not re.search(r"\d.*\.$", found.message, re.DOTALL):
        yield f"its message is no sentence with a number: {found.message!r}"
    if not found.evidence and not found.sites:
        yield "its finding has neither evidence nor sites"
    if not found.remedies:
        yield "its finding has no remedies"
    for remedy in found.remedies:
        if len(remedy.split()) < 2 or not remedy.endswith("."):
            yield f"its remedy is no sentence: {remedy!r}"
    looks = (reading.seen, *reading.history)
    known = {site.name.split("#")[0] for look in looks for site in look.sites}
    known |= {parameter.name for parameter in reading.seen.parameters}
    strange = [name for name in found.sites if name.split("#")[0] not in known]
    if strange:
        yield f"its finding names {strange[0]!r}, which is no site or parameter of the reading"


def _well(rule: Rule) -> Iterator[str]:
    outcome = _judged(rule, rule.well())
    if not isinstance(outcome, Passed):
        yield f"its well reading is not passed but gets {outcome}"
    elif not re.search(r"\d", outcome.reason):
        yield f"it passes its well reading without a number: {outcome.reason!r}"


def _explained(rule: Rule, further: Sequence[Reading]) -> Iterator[str]:
    found = [_judged(rule, reading) for reading in (rule.sick(), *further)]
    said = {*rule.explains}.union(*(f.explains for f in found if isinstance(f, Finding)))
    strange = sorted(said - {r.code for r in RULES} - {rule.code})
    if strange:
        yield f"it explains {', '.join(strange)}, which no rule has"


def _robust(rule: Rule) -> Iterator[str]:
    empty = _judged(rule, Reading(Record(())))
    if not isinstance(empty, (Passed, NotApplicable)) or not empty.reason:
        yield f"an empty record gets {empty}"
    silent = _judged(rule, Reading(_filled(9, None, None)))
    if isinstance(silent, Finding) and silent.severity.reaches(Severity.WARNING):
        yield f"a record in which nothing was measured gets {silent}"
    for what, reading in _odd():
        outcome = _judged(rule, reading)
        if isinstance(outcome, str):
            yield f"on {what}, {outcome}"
            return
        if not (
            outcome.message and outcome.remedies if isinstance(outcome, Finding) else outcome.reason
        ):
            yield f"{what} gets an outcome without words"
            return


def _decided(rule: Rule, further: Sequence[Reading]) -> Iterator[str]:
    readings = (rule.sick(), rule.well(), *further)
    before = [_outline(_judged(rule, reading)) for reading in readings]
    for field in dataclasses.fields(rule):  # type: ignore[arg-type]  # as above
        if not isinstance(field.default, (int, float)):
            continue
        kind = type(field.default)
        extremes = (kind(field.default * 1e-9), kind(field.default * 1e9))
        others = [
            dataclasses.replace(rule, **{field.name: value})  # type: ignore[type-var]  # as above
            for value in extremes
        ]
        if all([_outline(_judged(o, r)) for r in readings] == before for o in others):
            yield (
                f"threshold {field.name} decides nothing about sick, well "
                f"or {len(further)} further readings"
            )


def _judged(rule: Rule, reading: Reading) -> Outcome | str:
    """The outcome, or what was raised."""
    try:
        return rule.judge(reading)
    except Exception as error:  # a rule must not raise anything
        return f"judge raised {type(error).__name__}: {error}"


def _outline(outcome: Outcome | str) -> tuple[Any, ...]:
    """What a user would notice of an outcome, numbers in its text aside."""
    if isinstance(outcome, Finding):
        return outcome.severity, outcome.cause, len(outcome.sites)
    return (type(outcome),)


class _Every(dict[str, Any]):
    """Holds the same for every key that anybody asks for."""

    def __init__(self, value: Any) -> None:
        super().__init__()
        self.value = value

    def __contains__(self, key: object) -> bool:
        return True

    def __missing__(self, key: str) -> Any:
        return self.value

    def get(self, key: str, _default: Any = None, /) -> Any:
        return dict.get(self, key, self.value)


_KINDS = ("linear", "relu", "batch_norm", "add", "recurrent", "sigmoid", "conv", "layer_norm")


def _filled(sites: int, number: Number, fact: Any) -> Record:
    """A record in which every series and every fact has one value."""
    places = tuple(
        Site(f"s{i}", _KINDS[i % len(_KINDS)], "X", i, (5, 7), (i - 1,) if i else (), (i,))
        for i in range(sites)
    )
    parameters = tuple(Parameter(f"p{i}", (7, 5), "linear") for i in range(sites))
    bins = ((0,) * len(EXPONENTS),) * sites
    return Record(places, parameters, _Every((number,) * sites), _Every(bins), _Every(fact))


def _odd() -> Iterator[tuple[str, Reading]]:
    """Readings that no network gives, and that a rule must survive."""
    yield "an empty record", Reading(Record((), facts={"batch.size": 0}))
    for sites in (1, 9):
        for number in (None, 0.0, 1.0, -1.0, 1e30, 5e-324, math.nan, math.inf, -math.inf):
            look = _filled(sites, number, number)
            last = dataclasses.replace(look, step=7)
            course = _Every(number)
            course["rehearsal.losses"] = [2.0, number, 1.0] * 20
            trained = dataclasses.replace(last, facts=course)
            what = f"{sites} sites where every number is {number}"
            yield what, Reading(look)
            yield f"{what}, and a second look", Reading(look, history=(last,))
            yield f"{what}, and a rehearsal", Reading(look, history=(trained,))
            facts = _Every(number)
            facts["watch.losses"] = [list(range(60)), [2.0, number, 1.0] * 20]
            later = [dataclasses.replace(look, step=step) for step in range(7, 70, 7)]
            later.append(dataclasses.replace(look, step=70, facts=facts))
            yield f"{what}, in a watched run", Reading(look, history=tuple(later))
    for fact in ("word", [], {}, [1, 2], {"op": None}, [[2], [3]], True):
        yield f"facts that are {fact!r}", Reading(_filled(9, 1.0, fact))


def check_remedy(remedy: "Remedy") -> None:
    """Runs a remedy through everything that a remedy has to be; one line in a test is enough.

    It names itself and its source; it has a plan for its `sick` case and a reason to leave its
    `well` one alone; planning changes nothing; the change depends on nothing but the seed, leaves
    the global generators alone, trains, survives copying and saving, says what becomes of the keys
    of `state_dict`, and is undone bit for bit.

    Raises:
        CatalogueError: everything that is broken.
    """
    broken = [*_described(remedy)]
    broken = broken or [*_planned(remedy)]
    if broken:
        raise CatalogueError(
            f"{type(remedy).__name__} breaks the contract of remedies: {'; '.join(broken)}"
        )


def _described(remedy: "Remedy") -> Iterator[str]:
    from isograd.remedies import FAMILIES
    from isograd.remedies._remedy import HEADINGS as WANTED

    if not re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", getattr(remedy, "code", "")):
        yield "its code is not in kebab-case"
    if getattr(remedy, "family", None) not in FAMILIES:
        yield f"its family is none of {', '.join(FAMILIES)}"
    strange = sorted(set(getattr(remedy, "addresses", ("",))) - set(CAUSES))
    if strange or not remedy.addresses:
        yield f"it addresses {strange or 'nothing'}; causes are those of isograd.findings.CAUSES"
    sections = remedy.sections()
    if tuple(sections) != WANTED or not remedy.title():
        yield f"the docstring's headings are {', '.join(sections)}, not {', '.join(WANTED)}"
    if any(len(text.split()) < _REASON or not text.endswith(".") for text in sections.values()):
        yield "a section of the docstring is no sentence"
    reasons = {name: reason for name, _, reason in remedy.settings()}
    for field in dataclasses.fields(remedy):  # type: ignore[arg-type]  # every remedy is one
        if not reasons.get(field.name, "").endswith("."):
            yield f"setting {field.name} has no docstring below it that gives the reason"


def _planned(remedy: "Remedy") -> Iterator[str]:
    import torch

    well = remedy.plan(remedy.well())
    if not isinstance(well, str):
        yield f"it would change its well case: {well.script}"
    case = remedy.sick()
    before, state = _fingerprint(case.model), torch.get_rng_state()
    plan = remedy.plan(case)
    if isinstance(plan, str):
        yield f"it leaves its sick case alone: {plan}"
        return
    if _fingerprint(case.model) != before:
        yield "planning changed the model"
    if not plan.script or not plan.effect.endswith("."):
        yield "its plan has no code, or its effect is no sentence"
    twin = copy.deepcopy(case.model)
    change = plan.apply(case.model, seed=3)
    yield from _changed(case, plan, change.model, change.loss or case.loss, before)
    again = plan.apply(twin, seed=3)
    if _values(again.model) != _values(change.model):
        yield "two copies changed with one seed differ"
    change.undo()
    if _fingerprint(case.model) != before:
        yield "undo does not give back the same model"
    if not torch.equal(state, torch.get_rng_state()):
        yield "it drew from the global generator"


def _changed(
    case: "Case", plan: "Plan", model: "nn.Module", loss: Any, before: list[Any]
) -> Iterator[str]:
    import torch

    from isograd.probe.measuring import measure

    if plan.code and model is case.model and loss is case.loss and _fingerprint(model) == before:
        yield "its code changes nothing"
    stays = list(model.state_dict()) == before[-1]
    if stays == bool(plan.keys):
        yield "the keys of state_dict change unsaid" if not stays else "the keys do not change"
    value = measure(model, case.batch, loss).fact("loss.value")
    if value is None or not math.isfinite(value):
        yield f"the loss of the changed model is {value}"
    stored = io.BytesIO()
    torch.save(model, stored)
    stored.seek(0)
    for what, other in (
        ("copied", copy.deepcopy(model)),
        ("saved", torch.load(stored, weights_only=False)),
    ):
        if measure(other, case.batch, loss).fact("loss.value") != value:
            yield f"the changed model gives another loss once it was {what}"


def _values(model: "nn.Module") -> list[tuple[str, bytes]]:
    """Every parameter and buffer, bit for bit."""
    held = [*model.named_parameters(), *model.named_buffers()]
    return [(name, t.detach().cpu().numpy().tobytes()) for name, t in held]


def _fingerprint(model: "nn.Module") -> list[Any]:
    """What a model is: values, modules, attributes, hooks, modes, gradients."""
    modules = [
        (name, id(m), type(m), m.training, sorted(vars(m)), m.extra_repr(),
         [(k, list(v)) for k, v in vars(m).items() if isinstance(v, dict)])
        for name, m in model.named_modules(remove_duplicate=False)
    ]  # fmt: skip
    asks = [(id(p), p.requires_grad, id(p.grad)) for p in model.parameters()]
    return [_values(model), modules, asks, [name for name, _ in model.state_dict().items()]]
