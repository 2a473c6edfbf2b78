"""check() and assert_trainable(): measure, predict, rehearse, diagnose."""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from isograd.diagnosis import diagnose
from isograd.errors import InputError, IsogradError, UntrainableError, checked_seed
from isograd.findings import Diagnosis, Severity
from isograd.records import Reading, Record

if TYPE_CHECKING:
    import torch


def check(
    model: "torch.nn.Module",
    batch: Any,
    loss: Callable[[Any, Any], Any] | None = None,
    *,
    optimizer: Any = None,
    data: Iterable[Any] | None = None,
    steps: int = 0,
    select: Collection[str] = (),
    ignore: Collection[str] = (),
    predict: bool = True,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Diagnosis:
    """Says whether signal and gradient survive the depth, and if not what is wrong and where.

    The model is left as found. With an optimizer, update sizes and the learning rate are judged
    too; with `steps`, copies of model and optimizer train that many steps first (a rehearsal),
    so that what goes wrong only after the first updates is seen.

    What is measured stands beside what theory predicts for a network whose weights have the same
    means and variances (`reading.expected`). Where nothing can be predicted, a note says why.

    Args:
        model: any module; it runs in the mode (train or eval) that it is in.
        batch: a tensor; a dict, called as `model(**batch)`; or a pair `(inputs, targets)`.
        loss: callable `(outputs, targets) -> scalar`; chosen by type where left out.
        optimizer: the model's optimizer, or a factory that takes parameters.
        data: batches for the rehearsal; the one batch where left out.
        steps: optimizer steps of the rehearsal.
        select: codes of rules, or prefixes such as `IG1`, to judge; all where empty.
        ignore: codes or prefixes to leave out.
        predict: whether to predict too; it costs less than measuring.
        seed: of random probes and of the rehearsal.
        progress: called with (steps done, steps) during the rehearsal.

    Raises:
        InputError: the batch, the loss, the model or the optimizer cannot be used, or `select`
            and `ignore` leave no rule.
    """
    from isograd.probe.measuring import measure
    from isograd.probe.rehearsal import rehearse

    seed = checked_seed(seed, "check")
    if not isinstance(steps, int):
        raise InputError(f"check: steps={steps!r}; it must be a whole number")
    if steps < 0 or (steps and optimizer is None):
        raise InputError(
            f"check: steps={steps} needs optimizer=, the model's optimizer or a factory such as "
            "lambda p: torch.optim.SGD(p, lr=0.1)"
            if steps > 0
            else f"check: steps={steps}; it must be 0 or more"
        )
    seen = measure(model, batch, loss, seed=seed)
    expected = None
    if predict:
        expected, missing = _predicted(model, batch, loss, seed)
        seen = replace(seen, notes=(*seen.notes, *missing))
    reading = Reading(seen, expected)
    if optimizer is not None:
        reading = rehearse(
            model,
            batch,
            loss,
            seen,
            optimizer=optimizer,
            data=data,
            steps=steps,
            seed=seed,
            progress=progress,
        )
        reading = replace(reading, expected=expected)
    diagnosis = diagnose(reading, select=select, ignore=ignore)
    if all(verdict.state == "ignored" for verdict in diagnosis.verdicts):
        raise InputError(
            f"check: select={select!r}, ignore={ignore!r} leave no rule to judge by; the rules are "
            + ", ".join(verdict.code for verdict in diagnosis.verdicts)
        )
    return diagnosis


def _predicted(
    model: "torch.nn.Module", batch: Any, loss: Callable[[Any, Any], Any] | None, seed: int
) -> tuple[Record | None, list[str]]:
    """The prediction, or a note that says why there is none: it must not cost the measurement."""
    from isograd.probe.borrowing import borrowed, left_alone

    try:
        from isograd.prediction.predicting import predict

        # A forward may keep what it computed (a hidden state), here tensors without values.
        with borrowed(getattr(model, "_orig_mod", model)), left_alone(loss):
            return predict(model, batch, loss=loss, seed=seed), []
    except Exception as error:
        first = (str(error).strip() or "no message").splitlines()[0]
        told = first.removeprefix("predict: ")
        if not isinstance(error, IsogradError):
            told = f"{type(error).__name__}: {told}"
        return None, [f"no prediction: {told}"]


def assert_trainable(
    model: "torch.nn.Module",
    batch: Any,
    loss: Callable[[Any, Any], Any] | None = None,
    *,
    fail_on: Severity | str = Severity.WARNING,
    **options: Any,
) -> Diagnosis:
    """Fails a test, with the report as its message, if `check` finds something.

    Args:
        model: as in `check`.
        batch: as in `check`.
        loss: as in `check`.
        fail_on: the lowest severity that fails: error, warning or info.
        **options: further arguments of `check`.

    Returns:
        The diagnosis, where nothing reaches the threshold.

    Raises:
        UntrainableError: an AssertionError that holds the report.
        InputError: as in `check`, or `fail_on` is no severity.
    """
    try:
        threshold = Severity(fail_on)
    except ValueError:
        known = ", ".join(severity.value for severity in Severity)
        raise InputError(
            f"assert_trainable: fail_on={fail_on!r} is no severity; it is one of {known}"
        ) from None
    diagnosis = check(model, batch, loss, **options)
    if any(finding.severity.reaches(threshold) for finding in diagnosis.findings):
        raise UntrainableError(str(diagnosis))
    return diagnosis
