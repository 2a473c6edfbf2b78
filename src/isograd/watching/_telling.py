"""Where a non-finite value came from, in words."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

from isograd.findings import Alarm
from isograd.records import Reading, Record


def describe(alarm: Alarm) -> str:
    """An alarm in a line: step, code, message, cause, and what to do first."""
    finding = alarm.finding
    return (
        f"step {alarm.last_step}: {finding.code} {finding.message} Cause: {finding.cause}."
        + "".join(f" {remedy}" for remedy in finding.remedies[:1])
    )


def nothing(steps: int, backwards: int, *, apart: bool, arrived: bool) -> str:
    """Why there is nothing to see in a loop, and what to do.

    Args:
        steps: of the optimizer, without a backward.
        backwards: without a step.
        apart: whether the optimizer holds no parameter of the model.
        arrived: whether parameters have gradients all the same.
    """
    if apart:
        return (
            "nothing is seen: the optimizer holds no parameter of the model; build it from "
            "model.parameters(), after the last change of the model"
        )
    if steps and arrived:
        return (
            f"nothing is seen: the gradients of {steps} steps came from no backward() of this "
            "model, which is what is followed; call loss.backward() on what the model returns"
        )
    if steps:
        return (
            f"nothing is seen: {steps} steps and no gradient; call loss.backward() between "
            "optimizer.zero_grad() and optimizer.step(), on a loss that comes from this model"
        )
    if backwards:
        return (
            f"nothing is seen: {backwards} backward passes, and no step of an optimizer that holds "
            "parameters of the model; call optimizer.step() after loss.backward()"
        )
    return (
        "nothing was seen: no backward pass of this model and no step of its optimizer; watch the "
        "very module that the loop calls and trains"
    )


def explain_events(
    reading: Reading | None,
    events: Mapping[str, Any],
    losses: Sequence[tuple[int, float]],
) -> str | None:
    """What is known of the first non-finite value of a run.

    Args:
        reading: the looks so far.
        events: facts `event.forward` and `event.backward`, as far as the watcher has them.
        losses: (step, loss).
    """
    records = [] if reading is None else [reading.seen, *reading.history]
    for record in records:
        for key in ("event.forward", "event.backward"):
            if key in record.facts:
                events = {key: record.facts[key], **events}
    bad_loss = next((step for step, value in losses if not math.isfinite(value)), None)
    parts = [_event(key, event, records) for key, event in events.items()]
    poisoned = _poisoned(records)
    if poisoned is not None and (bad_loss is None or poisoned[0] < bad_loss):
        step, names = poisoned
        parts.append(
            f"At step {step} parameters hold non-finite values while the loss is finite: "
            f"{', '.join(names[:3])}{' …' if len(names) > 3 else ''}. A gradient that was not "
            "finite was applied to them, and what it spoiled does not reach the loss yet."
        )
    if bad_loss is not None:
        parts.append(f"The loss is non-finite since step {bad_loss}.")
    return "\n".join(parts) or None


def _event(key: str, event: Mapping[str, Any], records: Sequence[Record]) -> str:
    site = event.get("site")
    names = [s.name for s in records[0].sites] if records else []
    near = f" (after {names[site]})" if isinstance(site, int) and site < len(names) else ""
    where = event.get("module") or ("the loss" if event.get("phase") == "loss" else "the model")
    way = "value" if key == "event.forward" else "gradient"
    rank = f" on rank {event['rank']}" if event.get("rank") is not None else ""
    text = (
        f"Step {event['step']}{rank}: the first non-finite {way} came out of {event['op']} in "
        f"{where}{near}"
    )
    given = list(map(_range, event.get("inputs", ())))
    if given:
        text += f"; it was given {', '.join(given)}"
    before = event.get("before")
    if before:
        text += "; in the looks before, the largest magnitude that went in was " + ", ".join(
            f"{value:.3g} (step {step})" for step, value in before
        )
    return text + "."


def _range(given: Mapping[str, Any]) -> str:
    """One input of an operation; an empty tensor, or one of NaN alone, has no range."""
    text = f"{given['dtype']}{given['shape']}"
    if given.get("min") is not None:
        text += f" from {given['min']:.3g} to {given['max']:.3g}"
    if given.get("nonfinite"):
        text += f" with {given['nonfinite']} non-finite entries"
    return text + (" (of the batch)" if given.get("batch") else "")


def _poisoned(records: Sequence[Record]) -> tuple[int, list[str]] | None:
    """The first look at which parameters held non-finite values, and their names."""
    for record in records:
        names = [record.parameters[i].name for i, n in record.pairs("weight.nonfinite") if n]
        if names:
            return record.step, names
    return None
