"""Score: one number for how well a network does, by the same measure for every candidate."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from isograd.errors import DataError, IsogradError
from isograd.probe.borrowing import borrowed
from isograd.repairs.supply import Supply
from isograd.sites.batches import Batch, tensors
from isograd.sites.codes import Places, at_prior
from isograd.sites.losses import as_scalar, choose, form_of
from isograd.sites.randomness import reseed

FACTORS = tuple(2.0 ** (k / 4) for k in range(-43, 44))
"""Factors on logits, of which the best is looked for. Cross entropy is convex in the factor, and
within an eighth of an octave of its minimum as good as there."""

LINE = 0.5
"""Share of the targets' variance below which the best line through the outputs of a network before
its training leaves so little that scale and offset are most of what there is to learn."""

SAME = 1e-5
"""Part of the largest output that batches as one may differ from each by itself: rounding."""
MEASURES = {
    "classes": "cross entropy at the best temperature",
    "line": "share of the targets' variance that the best line through the outputs leaves",
    "variance": "share of the targets' variance that is left",
    "loss": "loss",
    "labels": "cross entropy of the labels",
    "answer": "loss without the divergence of the code",
}
"""What a score is, in words; lower is better in all of them."""


@dataclass(frozen=True)
class Judge:
    """Judges networks on the batches that are held out.

    Where the targets are classes, by the cross entropy that is left when the scale of the outputs
    is taken out: a fresh initialization often starts with outputs that are too large, which a
    few steps mend, and a second softmax with ones that are too small. Where they are real numbers
    likewise, scale and offset taken out, unless these are what is wrong, or all that there is to
    learn, as where a line is fitted. Otherwise by the user's
    loss; or, where that is at fault, by the variance that is not explained.
    """

    supply: Supply
    loss: Any
    """The user's own."""
    measure: str
    """A key of MEASURES."""
    training: bool
    """The mode of the network while it is judged."""
    seed: int
    code: Places = ()
    """Entries of the outputs that are a Gaussian code, whose divergence is what weighs too much."""
    whole: Batch | None = None
    """What is held out as one batch, where that was seen to make no difference but in time."""
    untrained: float | None = None
    """The score of the network as it is, where making the judge told it."""

    def __call__(self, model: nn.Module) -> float:
        """The score; infinite where the network gives no finite numbers."""
        with borrowed(model), torch.no_grad():
            reseed(self.seed)
            model.train(self.training) if self.training != model.training else None
            held = self.supply.held
            if self.whole is not None and not _mixes(model):
                held = (self.whole,)
            return self.score([_called(model, batch) for batch in held], held)

    def score(self, outputs: Sequence[Any], held: Sequence[Batch]) -> float:
        """The score of what a network makes of batches."""
        if self.measure == "classes":  # one temperature for all
            logits, labels = zip(*map(self._classes, outputs, held), strict=True)
            return calibrated(torch.cat(logits), torch.cat(labels))
        values, weights = list(map(self._one, outputs, held)), [batch.size for batch in held]
        total = sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)
        return total if math.isfinite(total) else math.inf

    def off_scale(self, model: nn.Module) -> tuple[float, float] | None:
        """Shares of the targets' variance that are left, and that the best line would leave.

        None where scores are not losses of real numbers.
        """
        if self.measure != "loss":
            return None
        shares = []
        with borrowed(model), torch.no_grad():
            reseed(self.seed)
            for batch in self.supply.held:
                outputs = batch.call(model)
                if not _comparable(outputs, batch.targets) or _binary(batch.targets):
                    return None
                out = _signal(outputs)
                shares.append((unexplained(out, batch.targets), beside_line(out, batch.targets)))
        left, best = zip(*shares, strict=True)
        return sum(left) / len(left), sum(best) / len(best)

    def _classes(self, outputs: Any, batch: Batch) -> tuple[Tensor, Tensor]:
        return _classes(_signal(outputs), batch.targets)

    def _one(self, outputs: Any, batch: Batch) -> float:
        if self.measure in ("loss", "answer"):
            outputs = at_prior(outputs, self.code) if self.measure == "answer" else outputs
            chosen = choose(outputs, batch.targets, self.loss, self.seed)
            return float(as_scalar(chosen.compute(), chosen.name))
        out = _signal(outputs)
        if self.measure == "labels":
            return _of_labels(out, batch.targets)
        return (beside_line if self.measure == "line" else unexplained)(out, batch.targets)


def judge(
    model: nn.Module,
    supply: Supply,
    loss: Any,
    *,
    new_loss: bool,
    scale: bool,
    training: bool,
    seed: int,
    own: bool = False,
    code: Places = (),
    labels: bool = False,
) -> Judge:
    """The judge for one network and its candidates.

    Args:
        model: the network as it is.
        supply: what is held out.
        loss: the user's own.
        new_loss: whether any candidate is trained on another one.
        scale: whether scale and offset of real outputs count.
        training: mode in which networks are judged.
        seed: of what is random in a forward.
        own: whether the user's loss measures outputs that could be logits, too: because they are
            none, as those of an embedder, or because it is their scale that is at fault.
        labels: whether the targets are numbers of classes, which the user's loss takes for
            probabilities.
        code: of the outputs, where it is the weight of its divergence that is at fault.
    """
    if code:
        return Judge(supply, loss, "answer", training, seed, code)
    if labels:
        return Judge(supply, loss, "labels", training, seed)
    held = supply.held
    with borrowed(model), torch.no_grad():
        reseed(seed)
        model.train(training) if training != model.training else None
        outputs = [_called(model, batch) for batch in held]
        measure = _measure(outputs[0], held[0], own=own, new_loss=new_loss, scale=scale)
        one = _as_one(model, held, outputs) if measure == "classes" else None
        by = Judge(supply, loss, measure, training, seed, whole=one and one[1])
        if one is not None:
            outputs, held = [one[0]], (one[1],)
        return replace(by, untrained=by.score(outputs, held))


def _measure(outputs: Any, batch: Batch, *, own: bool, new_loss: bool, scale: bool) -> str:
    """What tells networks apart, by what the one before training makes of a batch."""
    try:
        _classes(_signal(outputs), batch.targets)
        return "loss" if own and not new_loss else "classes"
    except (TypeError, ValueError):
        if not _comparable(outputs, batch.targets):
            return "loss"
    lines = not (scale or _binary(batch.targets))
    lines = lines and beside_line(_signal(outputs), batch.targets) > LINE
    return "variance" if new_loss else "line" if lines else "loss"


def _mixes(model: nn.Module) -> bool:
    """Whether samples of a batch change one another's outputs by batch norms."""
    return any(m.training for m in model.modules() if isinstance(m, _BatchNorm))


def _as_one(
    model: nn.Module, held: Sequence[Batch], outputs: Sequence[Any]
) -> tuple[Any, Batch] | None:
    """Batches as one, and what the model says of it, if that is the same of each sample."""
    if len(held) < 2 or _mixes(model):
        return None
    try:
        columns = zip(*(batch.args for batch in held), strict=True)
        whole = Batch(
            tuple(torch.cat(column) for column in columns),
            {key: torch.cat([batch.kwargs[key] for batch in held]) for key in held[0].kwargs},
            torch.cat([batch.targets for batch in held]),
        )
        apart, given = torch.cat([_signal(one) for one in outputs]), whole.call(model)
        together = _signal(given)
    except Exception:  # whatever does not go together: they are judged one by one
        return None
    if apart.shape != together.shape or len(apart) != sum(batch.size for batch in held):
        return None
    # No number that is NaN is near any other.
    same = (apart - together).abs().max() <= SAME * apart.abs().max() if apart.numel() else False
    return (given, whole) if bool(same) else None


def _called(model: nn.Module, batch: Batch) -> Any:
    """The model's output.

    Raises:
        DataError: it does not run on a batch of the data.
    """
    try:
        return batch.call(model)
    except Exception as error:  # whatever the user's code raises
        shapes = ", ".join(str(list(t.shape)) for t in batch.inputs())
        raise DataError(
            f"data: the model raised {type(error).__name__} on a batch of {shapes}: {error}; "
            "batches of data= have to be like batch="
        ) from error


def calibrated(logits: Tensor, labels: Tensor) -> float:
    """Smallest mean divergence from the labels [nats] over factors on the logits, 0 among them.

    Args:
        logits: [samples, classes]
        labels: [samples], for the cross entropy; or the probabilities, [samples, classes].
    """
    x = logits.detach().double()
    if not bool(torch.isfinite(x).all()):
        return math.inf
    x = x - x.amax(1, keepdim=True)
    if labels.ndim == 1:
        right, least = float(x.gather(1, labels[:, None]).mean()), 0.0
    else:
        right = float((x * labels).sum(1).mean())
        least = float(torch.special.entr(labels.double()).sum(1).mean())

    def left(factor: float) -> tuple[float, bool]:
        """What is left with a factor, and whether a larger one would leave no less."""
        part = (x * factor).exp_()  # the largest logit is 0: no exponential overflows
        whole = part.sum(1)
        value = float(whole.log().mean()) - factor * right
        return value, float((part.mul_(x).sum(1) / whole).mean()) >= right

    low, high, lowest = -1, len(FACTORS), math.log(x.shape[1])  # of the factor 0
    while high - low > 1:  # downhill: convex, so that one valley is all there is
        middle = (low + high) // 2
        value, uphill = left(FACTORS[middle])
        lowest = min(lowest, value)
        low, high = (low, middle) if uphill else (middle, high)
    return lowest - least


def _of_labels(out: Tensor, targets: Tensor) -> float:
    """Cross entropy of class numbers [nats]: of logits, or of what one output tells of them.

    One number tells at most -ln(1 - r^2)/2 nats where the two are Gaussian, r their correlation.
    """
    labels = targets.flatten().long()
    if out.numel() > len(labels):
        return calibrated(out.flatten(1), labels)
    shares = torch.bincount(labels).double() / len(labels)
    left = max(beside_line(out, targets), 1e-12)
    return float(torch.special.entr(shares).sum()) + math.log(left) / 2


def unexplained(out: Tensor, targets: Tensor) -> float:
    """Mean squared error over the variance of the targets; logits of binary ones are squashed."""
    y = targets.double().flatten()
    x = out.detach()
    if _binary(y) and form_of(x, None) == "logits":
        x = x.sigmoid()
    error = float((x.double().flatten() - y).square().mean())
    return error / max(float(y.var(correction=0)), 1e-300)


def beside_line(out: Tensor, targets: Tensor) -> float:
    """Variance of the targets around the best line through the outputs, over their variance.

    Args:
        out: [samples, ...]
        targets: of as many entries; columns are judged one by one.
    """
    x, y = (t.detach().double().reshape(len(t), -1) for t in (out, targets))
    if not bool(torch.isfinite(x).all()):
        return math.inf
    x, y = x - x.mean(0), y - y.mean(0)
    known = (x * y).sum(0).square() / x.square().sum(0).clamp(min=1e-300)
    # Differences between samples that are rounding errors are no knowledge.
    known = known.where(x.square().mean(0) > 1e-12 * out.detach().double().square().mean(), 0.0)
    return float(1 - known.sum() / y.square().sum().clamp(min=1e-300))


def _classes(out: Tensor, targets: Any) -> tuple[Tensor, Tensor]:
    """Logits [samples, classes] and labels of a classification, without ignored ones.

    Labels are classes, [samples], or their probabilities, [samples, classes].
    """
    if _shares(targets, out):
        logarithms = form_of(out, 1) == "probabilities"
        return out.clamp(min=1e-30).log() if logarithms else out, targets
    if not isinstance(targets, Tensor) or targets.is_floating_point() or targets.is_complex():
        raise TypeError("no classes")
    if out.ndim != targets.ndim + 1 or out.numel() == targets.numel() or len(out) != len(targets):
        raise ValueError("no class axis")
    last = targets.ndim > 1 and out.shape[:-1] == targets.shape
    logits = out if last else out.movedim(1, -1)
    if logits.shape[:-1] != targets.shape:  # the loss takes parts of them
        raise ValueError("outputs and labels do not fit one to one")
    logits, labels = logits.flatten(0, -2), targets.long().flatten()
    kept = (labels >= 0) & (labels < logits.shape[1])
    if not bool(kept.any()):
        raise ValueError("no label is in range")
    return logits[kept], labels[kept]


def _shares(targets: Any, out: Tensor) -> bool:
    """Whether the targets are a distribution over classes for each sample, not zeros and a one."""
    fits = isinstance(targets, Tensor) and targets.ndim == 2 and targets.shape == out.shape
    fits = fits and targets.is_floating_point() and form_of(targets, 1) == "probabilities"
    return fits and not _binary(targets)


def _binary(targets: Tensor) -> bool:
    return bool(((targets == 0) | (targets == 1)).all())


def _comparable(outputs: Any, targets: Any) -> bool:
    return (
        isinstance(targets, Tensor)
        and not targets.is_complex()
        and targets.ndim > 0
        and _signal(outputs).numel() == targets.numel() > 1
    )


def _signal(outputs: Any) -> Tensor:
    """The first floating-point tensor of what a model returned, past its own loss.

    Raises:
        TypeError: there is none.
    """
    for tensor in tensors(outputs):
        if tensor.is_floating_point() and tensor.ndim > 0:
            return tensor
    raise TypeError("no output is a floating-point tensor")


def failed(error: Exception) -> str:
    """Why a candidate was given up, in one line."""
    first = (str(error).strip() or "no message").splitlines()[0]
    return first if isinstance(error, IsogradError) else f"{type(error).__name__}: {first}"
