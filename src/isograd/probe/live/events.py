"""Events: the first non-finite value of a run, where it came from, and what went before it."""

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from isograd.probe.live.payload import Later
from isograd.probe.live.poison import Held
from isograd.probe.live.sheet import Sheet
from isograd.sites.tape import Node
from isograd.statistics import SUMS

_ENDS = [SUMS.index("min"), SUMS.index("max")]

BEFORE = 8
"""Looks before it of which the ranges are told."""


class Events:
    """Facts `event.forward` and `event.backward` of the first step that went wrong.

    Args:
        model: the plain module.
        alarm: called when there is one.
    """

    def __init__(self, model: nn.Module, alarm: Callable[[], None]) -> None:
        self.found: dict[str, dict[str, Any]] = {}
        self.held = Held()
        self.sheet: Sheet | None = None
        self._model, self._alarm = model, alarm
        self._runs_again = True
        self._healthy: deque[Later] = deque(maxlen=BEFORE)

    def looked(self, look: Later) -> None:
        """Keeps a healthy look, for its ranges."""
        if not self.found:
            self._healthy.append(look)

    def locate(self, step: int, known: Sequence[Node], loss: Tensor | None) -> None:
        """Runs the latest call of the model once more, every operation watched."""
        if not self._runs_again:
            return
        # What the loop did to its data before the model was called is not done again.
        start = next((i for i, n in enumerate(known) if n.phase == "input"), 0)
        try:
            found = self.held.locate(self._model, known[start:], loss)
        except Exception:  # not every model can be run by itself; the rows tell, to within a site
            self._runs_again, found = False, {}
        self._keep(step, found)

    def in_rows(self, step: int, sheet: Sheet, rows: dict[str, Tensor]) -> None:
        """Finds where the numbers of a look went wrong, if they did: to within a site."""
        if self.found:
            return
        forward, backward = (
            [i for i, n in enumerate(rows[key][:, 1].tolist()) if n]
            for key in ("forward", "backward")
        )
        # The first site on the way there; the first on the way back is the last one.
        key, places = ("forward", forward) if forward else ("backward", backward[-1:])
        if not places:
            return
        site = sheet.sites[places[0]]
        event = {
            "op": site.kind,
            "module": site.name.partition(":")[0],
            "site": places[0],
            "phase": "model",
            "inputs": [],
            "count": int(rows[key][places[0], 1]),
        }
        self._keep(step, {f"event.{key}": event})

    def _keep(self, step: int, found: dict[str, dict[str, Any]]) -> None:
        self.found = {
            key: {**event, "step": step, "before": self._before(step, event.get("site"))}
            for key, event in found.items()
        }
        if found:
            self._alarm()

    def _before(self, step: int, site: int | None) -> list[list[float]]:
        """The largest magnitudes that went into a site in the looks before."""
        if site is None or self.sheet is None:
            return []
        places = list(self.sheet.sites[site].inputs) or [site]
        looks = [look for look in self._healthy if look.step < step]
        ends = [look.get().rows["forward"][places][:, _ENDS] for look in looks]
        return [[look.step, float(e.abs().max())] for look, e in zip(looks, ends, strict=True)]
