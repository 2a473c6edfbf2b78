"""measure(): one forward and backward of a live model on one batch, as a Record."""

import warnings
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor, nn

from isograd.errors import IsogradError, LossError, ModelError, a_kind
from isograd.probe.assembling import assemble
from isograd.probe.borrowing import borrowed, left_alone
from isograd.probe.facts import norm_facts
from isograd.probe.losses import is_summed, sums_entries, undecided, weighted
from isograd.probe.modes import eval_gap, running
from isograd.probe.nonfinite import locate
from isograd.probe.recorder import Recorder
from isograd.records import Record
from isograd.sites.batches import Batch, as_batch, beside, check_finite, is_signal, misread, tensors
from isograd.sites.codes import Code, gaussian_code
from isograd.sites.losses import Loss, as_scalar, choose, describe
from isograd.sites.randomness import put_random_states, random_states
from isograd.sites.tape import Listener, Node, Tape


@dataclass
class Pass:
    """One forward and backward, as far as it came."""

    tape: Tape
    batch: Batch
    outputs: Any = None
    loss: Tensor | None = None
    loss_name: str = ""
    loss_chosen: bool = False
    """Whether it was chosen for the user."""
    loss_node: Node | None = None
    summed: bool | None = None
    """Whether the loss is a sum over the batch, where that can be told."""
    summed_entries: bool | None = None
    """The same over the entries of a sample."""
    weighted: bool = False
    undecided: float | None = None
    """What `isograd.probe.losses` says of the loss."""
    code: Code | None = None
    notes: list[str] = field(default_factory=list)
    gradients: list[Tensor | None] = field(default_factory=list)
    """dLoss/dp per parameter of the model."""


def measure(
    model: nn.Module, batch: Any, loss: Loss | None = None, *, seed: int = 0, step: int = 0
) -> Record:
    """Measures signal and gradient at every site of a model, which is left as found.

    Costs about one more forward and backward. Parameters, buffers, gradients, modes, hooks and
    random states are the same afterwards, so that training goes on bit for bit as without it.

    Args:
        model: any module; it runs in the mode (train or eval) that it is in.
        batch: a tensor; a dict, called as `model(**batch)`; or a pair `(inputs, targets)`.
        loss: callable `(outputs, targets) -> scalar tensor`. Left out, it is the output's own
            `.loss`, or chosen from the types of output and targets; without targets, backward
            numbers come from random probes. The record's notes say which.
        seed: of the random probes.
        step: the record's step.

    Returns:
        A Record; `docs/records.md` lists its keys and units.

    Raises:
        DataError: the batch cannot be read or holds non-finite inputs.
        ModelError: the model raised; its error is the cause.
        LossError: the loss raised, or is not one real number.
    """
    if not isinstance(model, nn.Module):
        raise ModelError(
            f"model: expected a torch.nn.Module, found {a_kind(model)}; pass the model "
            "itself, not its class or its output"
        )
    taken = as_batch(beside(batch, model))
    check_finite(taken)
    plain = getattr(model, "_orig_mod", model)  # what torch.compile wrapped
    if not isinstance(plain, nn.Module):
        plain = model
    with ExitStack() as stack:
        stack.enter_context(borrowed(plain))
        stack.enter_context(left_alone(loss))
        stack.enter_context(warnings.catch_warnings())
        warnings.simplefilter("ignore")
        stack.enter_context(torch.inference_mode(False))
        stack.enter_context(torch.enable_grad())
        drawn = random_states()
        before, facts = running(plain), norm_facts(plain)
        recorder = Recorder()
        stack.callback(recorder.close)
        done = run(plain, _ready(plain, taken), loss, recorder, seed=seed)
        record = assemble(plain, done, recorder, step)
        put_random_states(drawn)
        gap = eval_gap(plain, taken, done.outputs, before)
        if gap is not None:
            facts["norm.eval_gap"] = gap
        record = replace(record, facts={**record.facts, **facts})
        if _went_wrong(record, done):
            put_random_states(drawn)
            record = locate(
                record,
                done,
                lambda listener: run(plain, _ready(plain, taken), loss, listener, seed=seed),
            )
        return record


def _went_wrong(record: Record, done: Pass) -> bool:
    if done.loss is not None and not bool(torch.isfinite(done.loss.detach()).all()):
        return True
    keys = ("forward.nonfinite", "backward.nonfinite", "weight.grad_nonfinite")
    return any(number for key in keys for _, number in record.pairs(key))


def _ready(model: nn.Module, batch: Batch) -> Batch:
    """The batch for one pass: float inputs ask for a gradient where time steps are looked at."""
    if not any(isinstance(m, nn.RNNBase) for m in model.modules()):
        return batch
    if any(not t.is_leaf for t in batch.inputs()):
        return batch
    return Batch(
        _asking(batch.args), {k: _asking(v) for k, v in batch.kwargs.items()}, batch.targets
    )


def _asking(value: Any) -> Any:
    if isinstance(value, Tensor) and value.is_floating_point():
        return value.detach().requires_grad_()
    if type(value) in (tuple, list):
        return type(value)(_asking(item) for item in value)
    return value


def run(
    model: nn.Module, batch: Batch, loss: Loss | None, listener: Listener, *, seed: int
) -> Pass:
    """One forward and backward under a tape.

    Raises:
        ModelError: the forward or backward raised.
        LossError: the loss raised, or is not one real number.
    """
    done = Pass(Tape(model, listener), batch)
    tape = done.tape
    with tape.recording():
        tape.take(batch)
        done.outputs = _guarded(
            lambda: batch.call(model), lambda error: _forward_error(error, tape, batch)
        )
        tape.phase = "loss"
        with tape.quiet():
            chosen = choose(done.outputs, batch.targets, loss, seed)
        value = _guarded(chosen.compute, lambda e: _loss_error(e, chosen.name, done, batch))
        done.loss, done.loss_name = as_scalar(value, chosen.name), chosen.name
        if chosen.note:
            done.notes.append(chosen.note)
            done.loss_chosen = True
        done.loss_node = tape.node_of(value)
        with tape.quiet():
            given = loss, done.outputs, batch.targets, float(done.loss.detach())
            done.summed, done.summed_entries = is_summed(*given), sums_entries(*given)
            done.weighted, done.undecided = weighted(loss), undecided(*given[:3])
            done.code = gaussian_code(*given[:3])
    _backward(model, done)
    return done


def _guarded(action: Callable[[], Any], explain: Callable[[Exception], IsogradError]) -> Any:
    try:
        return action()
    except IsogradError:
        raise
    except Exception as error:
        raise explain(error) from error


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0] if lines else '(no message)'}"


def _forward_error(error: Exception, tape: Tape, batch: Batch) -> IsogradError:
    given = ", ".join(describe(t) for t in batch.inputs()) or "no tensors"
    frame = tape.deepest
    if frame is None or frame.path == "":
        where = "the model's forward"
    else:
        arguments = ", ".join(describe(t) for t in tensors(frame.arguments)) or "keywords only"
        where = f"{frame.path!r} ({type(frame.module).__name__}, given {arguments})"
    return ModelError(
        f"model: {where} raised {_first_line(error)}; the batch's inputs are {given}; "
        + (
            misread(batch, error)
            or "check that the model runs on this batch: "
            f"{'model(**batch)' if batch.kwargs else 'model(inputs)'}"
        )
    )


def _loss_error(error: Exception, name: str, done: Pass, batch: Batch) -> IsogradError:
    out = ", ".join(describe(t) for t in tensors(done.outputs)) or type(done.outputs).__name__
    targets = ", ".join(describe(t) for t in tensors(batch.targets)) or repr(batch.targets)
    return LossError(
        f"loss: {name} raised {_first_line(error)}; outputs {out}, targets {targets}; check that "
        "loss(model(inputs), targets) runs"
    )


def _backward(model: nn.Module, done: Pass) -> None:
    """Gradients of the loss; `.grad` is not touched where the graph allows it."""
    parameters = list(model.parameters())
    done.gradients = [None] * len(parameters)
    asked = [i for i, p in enumerate(parameters) if p.requires_grad]
    loss = done.loss
    if loss is None or not loss.requires_grad:
        done.notes.append("backward: the loss does not depend on anything that asks for a gradient")
        return
    others = [t for t in done.batch.inputs() if t.requires_grad and is_signal(t)]
    wanted = [parameters[i] for i in asked] + others
    try:
        if not wanted or _has_reentrant_checkpoint(loss):
            # Reentrant checkpointing works only with backward(), which fills `.grad`.
            for parameter in parameters:
                parameter.grad = None
            loss.backward()
            done.gradients = [p.grad for p in parameters]
        else:
            found = torch.autograd.grad(loss, wanted, allow_unused=True)
            for index, gradient in zip(asked, found, strict=False):
                done.gradients[index] = gradient
    except RuntimeError as error:
        raise ModelError(
            f"model: the backward raised {_first_line(error)}; check that loss.backward() runs"
        ) from error
    finally:
        for parameter in parameters:
            parameter.grad = None


def _has_reentrant_checkpoint(loss: Tensor) -> bool:
    seen: set[Any] = set()
    todo = [loss.grad_fn]
    while todo:
        node = todo.pop()
        if node is None or node in seen:
            continue
        if "CheckpointFunction" in type(node).__name__:
            return True
        seen.add(node)
        todo.extend(following for following, _ in node.next_functions)
    return False
