"""The reader: everything that is read of a model in the steps that are looked at."""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from isograd.probe.facts import norm_facts
from isograd.probe.live.compiled import Traced, forget_graphs, is_compiled, takes_fast_path
from isograd.probe.live.first import FirstLook
from isograd.probe.live.inputs import Inputs
from isograd.probe.live.looks import joined, record_of, spread_out
from isograd.probe.live.parameters import Parameters
from isograd.probe.live.payload import Later, Payload
from isograd.probe.live.sheet import Sheet
from isograd.probe.live.shield import Shield
from isograd.probe.live.taps import Taps
from isograd.records import Record
from isograd.sites.tape import Node

UNSEEN = 10
"""Steps without a forward of the model after which watching is given up."""

THOROUGH, EARLY = 32, 6
"""Every how many looks large tensors are read whole, units told apart and samples compared; and one
of the first looks, usually that after 32 steps, when running statistics should have arrived."""


class Reader:
    """Reads single steps: the first one by a tape, later ones by taps, compiled ones by theirs.

    Args:
        root: what the loop calls.
        model: the plain module.
        guard: makes a hook that cannot raise.
    """

    def __init__(self, root: nn.Module, model: nn.Module, guard: Shield) -> None:
        self.model, self._guard = model, guard
        self.on = False
        """Whether this step is looked at."""
        self.count = 0
        """Looks so far."""
        self.sheet: Sheet | None = None
        self._nodes: list[Node] = []
        self._parameters: Parameters | None = None
        self._inputs: Inputs | None = None
        self._first: FirstLook | None = None
        self._taps: Taps | Traced | None = None
        self._firsts: dict[int, Record] = {}
        self._unseen = self._since = 0
        self._norms: dict[str, Any] = {}
        """Facts of the batch norms at the first look, and its step."""
        self._thorough = False
        if is_compiled(root):
            forget_graphs()
            self._taps = Traced(model, guard)
        elif any(takes_fast_path(m) for m in model.modules()):
            self._taps = Traced(model, guard)

    @property
    def nodes(self) -> list[Node]:
        """Operations of the first look."""
        return self._nodes if self._first is None else self._first.tape.nodes

    def compiling(self) -> None:
        """Torch compiles something: no tape may stand in its way, and hooks are to be seen."""
        if self._first is not None:
            self._first.discard()
            self._first = None
            self._taps = Traced(self.model, self._guard)
            self._taps.attach(thorough=self._thorough)

    def arm(self, *, thorough: bool) -> None:
        """The coming step is looked at."""
        self.on = True
        if self._parameters is not None:
            self._parameters.clear()
            self._inputs = self._inputs or Inputs(self._parameters.device)
            self._inputs.clear()
        self._thorough = thorough or self.count % THOROUGH == 0 or self.count == EARLY
        self._listen()

    def _listen(self) -> None:
        if self._taps is not None:
            self._taps.attach(thorough=self._thorough)
        elif self._first is None:
            self._first = FirstLook(self.model, self._guard)
            self._first.start()

    def restart(self) -> None:
        """What was read of forwards and backwards of this step is none of it."""
        if self._inputs is not None:
            self._inputs.clear()
        if self._first is not None:
            self._first.discard()
            self._first = None
        self._listen()

    def hold(self) -> None:
        """The forwards and backwards that are still to come in this step are not read."""
        if self.on and self._taps is not None:
            self._taps.detach()

    def entering(
        self, args: tuple[Any, ...], kwargs: dict[str, Any], *, again: bool = False
    ) -> None:
        """The model is called, or goes on where another part of it has returned."""
        if self._first is not None:
            self._first.entering(args, kwargs)
        elif self.on and self._taps is not None and not again and torch.is_grad_enabled():
            self._taps.restart()
            if self._inputs is not None:
                self._inputs.read(args, kwargs)

    def left(self, outputs: Any) -> None:
        """The model has returned."""
        if self._first is not None:
            self._first.left(outputs)

    def backward_begins(self, loss: Tensor | None) -> None:
        """A backward begins."""
        if self._first is not None:
            self._first.backward_begins(loss)

    def backward_ended(self) -> None:
        """It is over."""
        if self.on and self._taps is not None:
            self._taps.backward_ended()

    def starts_from(self, optimizer: torch.optim.Optimizer | None) -> None:
        """The first backward of the step is about to add its gradients to what is there."""
        if optimizer is not None:
            self._ready().starts_from(optimizer)

    def before(self, optimizer: torch.optim.Optimizer | None) -> bool:
        """Reads parameters before a step; says whether a gradient is known to be non-finite."""
        parameters = self._ready()
        groups = [] if optimizer is None else optimizer.param_groups
        parameters.before({id(p) for g in groups for p in g["params"]}, self.count)
        bad = parameters.gradients.values[:, 1]
        return bad.device.type == "cpu" and bool(bad.any())

    def after(self, optimizer: torch.optim.Optimizer | None) -> None:
        """Reads parameters after a step."""
        if self._parameters is None or not self._parameters.read:
            self.before(optimizer)  # the backward came inside of the step (LBFGS)
        else:
            self._parameters.after()

    def look(self, step: int, facts: dict[str, Any], scale: float, grads: float) -> Later | None:
        """Everything that was read in this step, on its way.

        Args:
            step: steps done before.
            facts: of this step.
            scale: by which the loss was multiplied.
            grads: by what gradients of parameters are to be multiplied.
        """
        parameters = self._ready()
        if self._first is not None and not self._finish_first(step, facts, scale, grads):
            return None
        assert self._taps is not None
        if self.sheet is None:
            assert isinstance(self._taps, Traced)
            self.sheet = self._taps.sheet()
        tables = {
            "forward": self._taps.forward.values,
            "backward": self._taps.backward.values,
            "gradients": parameters.gradients.values,
            "weights": parameters.weights.values,
            "moved": parameters.moved,
        }
        if self._inputs is not None:
            tables["inputs"] = self._inputs.values
        for key, found in self._taps.numbers.items():
            tables[key] = spread_out(found, len(self.sheet.sites), parameters.device)
        facts["factor.gradients"] = grads
        if isinstance(self._taps, Taps) and self._taps.lags:
            known = self._norms.get("norm.tracked", 0) + step - self._since
            facts.update({**self._norms, "norm.tracked": known})
            facts["norm.eval_gap"] = torch.stack(self._taps.lags).median()
        if parameters.carried is not None:
            facts["gradient.carried"] = parameters.carried
        later = Later(step, tables, self._taps.forward.flags, facts)
        self.count += 1
        return later

    def rest(self) -> None:
        """The coming step is not looked at."""
        if self._taps is not None:
            self._taps.detach()

    def record(self, step: int, payload: Payload) -> Record:
        """The Record of a look that has arrived."""
        assert self.sheet is not None
        record = record_of(self.sheet, payload, step)
        first = self._firsts.pop(step, None)
        return record if first is None else joined(first, record)

    def discard(self) -> None:
        """Takes everything off."""
        for part in (self._first, self._taps):
            if part is not None:
                part.discard()

    def _ready(self) -> Parameters:
        """What reads parameters: made when they are where they will be."""
        if self._parameters is None:
            devices = [p.device for p in self.model.parameters()]
            self._parameters = Parameters(self.model, devices[0])
        return self._parameters

    def _finish_first(self, step: int, facts: dict[str, Any], scale: float, grads: float) -> bool:
        """The first look: its record is made at once, and later ones get their sheet."""
        first, self._first = self._first, None
        assert first is not None
        if not first.seen:
            first.discard()
            self._unseen += 1
            if self._unseen == UNSEEN:
                raise RuntimeError(
                    f"in {UNSEEN} steps no forward of the model was seen before a backward; watch "
                    "the module that the loop calls"
                )
            return False
        found = [p.grad for p in self.model.parameters()]
        if grads != 1.0:
            found = [None if g is None else g * grads for g in found]
        record, self.sheet, rows = first.finish(found, step, scale)
        self._nodes = first.tape.nodes
        self._norms, self._since = norm_facts(self.model), step
        self._firsts[step] = replace(record, facts={**record.facts, **facts})
        self._taps = Taps(self.model, self.sheet, self._ready().device, self._guard)
        self._taps.forward.values.copy_(rows["forward"])
        self._taps.backward.values.copy_(rows["backward"])
        return True
