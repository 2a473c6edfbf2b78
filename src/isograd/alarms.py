"""Alarms: findings of a watched run over time, raised once and withdrawn when they have healed."""

from dataclasses import dataclass, replace

from isograd.findings import Alarm, Diagnosis, Finding, Severity

Key = tuple[str, str]
"""Code and cause: what makes two findings the same alarm."""


@dataclass
class _Watched:
    """A code and cause that was seen: raised, or about to be."""

    alarm: Alarm
    raised: bool = False
    seen: int = 0
    """Judgements in a row that had it."""
    missed: int = 0
    """Judgements in a row that had it not."""


class Alarms:
    """Turns one diagnosis after another into alarms, so that noise raises none and none repeats.

    A finding becomes an alarm when enough judgements in a row have it; an error does at once,
    because there may be no second look. An alarm stays until its rule has judged several times
    without it and enough steps have passed. A look at which the rule could not judge counts
    neither way: a cheap look must not heal what it cannot see.

    What is a symptom of another finding raises no alarm of its own, and keeps the one it has. A
    rule that finds it harmless now, below the severity that counts, withdraws it as soon as it has
    said so often enough. The last judgement of a run has no second one: it raises what it finds.

    Args:
        looks: judgements in a row that raise an alarm; one more without it may withdraw it.
        steps: steps since it was seen last, before which no alarm is withdrawn.
        least: severity below which a finding counts as not seen.
    """

    def __init__(
        self, *, looks: int = 2, steps: int = 50, least: Severity = Severity.WARNING
    ) -> None:
        self.looks, self.steps, self.least = max(1, looks), steps, least
        self._now: dict[Key, _Watched] = {}
        self._past: dict[Key, Alarm] = {}
        self._rows: dict[str, int] = {}

    @property
    def all(self) -> tuple[Alarm, ...]:
        """The latest alarm of every code and cause, raised or withdrawn, in order of first step."""
        alarms = (*self.raised, *self._past.values())
        return tuple(sorted(alarms, key=lambda alarm: alarm.first_step))

    @property
    def raised(self) -> tuple[Alarm, ...]:
        """Those that have not healed, the most severe first."""
        alarms = [watched.alarm for watched in self._now.values() if watched.raised]
        return tuple(sorted(alarms, key=lambda alarm: -alarm.finding.severity.weight))

    def update(self, step: int, diagnosis: Diagnosis, *, last: bool = False) -> tuple[Alarm, ...]:
        """Takes the next diagnosis.

        Args:
            step: the step that was judged, not before the one of the last call.
            diagnosis: what the rules said of it.
            last: whether the run is over.

        Returns:
            The alarms that changed: raised, become more severe, or withdrawn.
        """
        seen = {(f.code, f.cause): f for f in diagnosis.findings if f.severity.reaches(self.least)}
        below = [f for finding in diagnosis.findings for f in _below(finding)]
        symptoms = {(f.code, f.cause) for f in below if f.severity.reaches(self.least)}
        eased = {(f.code, f.cause) for f in (*diagnosis.findings, *below)} - {*seen, *symptoms}
        judged = {v.code for v in diagnosis.verdicts if v.state in ("finding", "passed")}
        for code in judged:
            found = any(code == key[0] for key in (*seen, *symptoms))
            self._rows[code] = self._rows.get(code, 0) + 1 if found else 0
        changed = [self._saw(step, key, finding, last=last) for key, finding in seen.items()]
        for key in [key for key in self._now if key not in seen and key[0] in judged]:
            if key not in symptoms:
                changed.append(self._missed(step, key, last=last, eased=key in eased))
            elif self._now[key].raised:
                self._keep(step, self._now[key])
        return tuple(alarm for alarm in changed if alarm is not None)

    def _saw(self, step: int, key: Key, finding: Finding, *, last: bool) -> Alarm | None:
        new = _Watched(Alarm(finding, "raised", step, step, step))
        watched = self._now.setdefault(key, new)
        watched.seen += 1
        self._keep(step, watched)
        worse = finding.severity.weight > watched.alarm.finding.severity.weight
        if worse:
            watched.alarm = replace(watched.alarm, finding=finding, worst_step=step)
        if watched.raised:
            return watched.alarm if worse else None
        row = watched.seen
        if not any(w.raised for (code, _), w in self._now.items() if code == key[0]):
            # A rule that names one cause, then another, has found something in every look.
            row = max(row, self._rows.get(key[0], 0))
        if row < self.looks and not last and finding.severity is not Severity.ERROR:
            return None
        watched.raised = True
        self._past.pop(key, None)
        return watched.alarm

    def _missed(self, step: int, key: Key, *, last: bool, eased: bool) -> Alarm | None:
        watched = self._now[key]
        watched.missed += 1
        long_ago = step - watched.alarm.last_step >= self.steps
        needed = self.looks if not last else 0 if long_ago else 1
        if not watched.raised:
            del self._now[key]
        elif (last or eased or long_ago) and watched.missed > needed:
            del self._now[key]
            self._past[key] = replace(watched.alarm, state="withdrawn")
            return self._past[key]
        return None

    @staticmethod
    def _keep(step: int, watched: _Watched) -> None:
        watched.alarm, watched.missed = replace(watched.alarm, last_step=step), 0


def _below(finding: Finding) -> tuple[Finding, ...]:
    return tuple(s for part in finding.symptoms for s in (part, *_below(part)))
