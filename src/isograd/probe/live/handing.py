"""Handing over: what was seen reaches its receiver in order, when it has arrived."""

import time
from collections import deque
from typing import Any

from isograd.probe.live.events import Events
from isograd.probe.live.payload import LAG, Later, Losses, Payload
from isograd.probe.live.ranks import Ranks
from isograd.probe.live.reader import Reader
from isograd.probe.live.receiver import Receiver
from isograd.probe.live.schedule import Schedule

EAGER = 8
"""First looks that are handed over at once."""

TOGETHER, SOON = 16, 1.0
"""Later ones, of a training that is looked at every few steps, when there are so many, or so many
seconds have passed: judging and writing several in a row costs half of what they cost one by one,
each after a step that has driven all of it out of the caches."""


class Handing:
    """Losses and looks, on their way to a receiver.

    Args:
        receiver: who takes them.
        schedule: is told of signs of trouble.
        events: is told of all rows.
    """

    def __init__(self, receiver: Receiver, schedule: Schedule, events: Events) -> None:
        self._receiver, self._schedule, self._events = receiver, schedule, events
        self._losses = Losses()
        self._looks: deque[Later] = deque()
        self._reader: Reader | None = None
        self._count = 0
        self._busy = False
        self.worrying = False
        """Whether something wrong was seen: then nothing waits."""

    def add(self, step: int, loss: Any, look: Later | None, reader: Reader) -> None:
        """Takes what was seen in a step."""
        self._losses.add(step, loss)
        if look is not None:
            self._reader = reader
            self._looks.append(look)
            self._count += 1

    def hand_over(self, now: int, ranks: Ranks, *, wait: bool = False, ask: bool = False) -> None:
        """Hands over what has arrived.

        Args:
            now: steps done.
            ranks: the processes.
            wait: whether to wait for what has not.
            ask: whether somebody asks for it.
        """
        if self._busy or not (wait or ask or self._due(ranks)):
            return
        self._busy, self.worrying = True, False
        try:
            while self._looks and (
                wait or self._looks[0].ready() or now - self._looks[0].step >= LAG
            ):
                look = self._looks.popleft()
                self._hear(now, look.step, wait=wait)
                self._arrived(look.step, look.get(), ranks)
            self._hear(now, now, wait=wait)
            for step, payload in ranks.received(wait=wait) if ranks.several else ():
                self._tell(step, payload)
        finally:
            self._busy = False

    def _due(self, ranks: Ranks) -> bool:
        if self._schedule.every is None or self.worrying or self._events.found:
            return True
        if not self._looks or self._count <= EAGER or ranks.several:
            return True
        return len(self._looks) >= TOGETHER or time.monotonic() - self._looks[0].taken >= SOON

    def _hear(self, now: int, until: int, *, wait: bool) -> None:
        for step, value in self._losses.arrived(now, until, wait=wait):
            if self._receiver.lost(step, value):
                self._schedule.alarm()

    def _arrived(self, step: int, payload: Payload, ranks: Ranks) -> None:
        assert self._reader is not None
        assert self._reader.sheet is not None
        self._events.in_rows(step, self._reader.sheet, payload.rows)
        for key, event in self._events.found.items():
            if event["step"] <= step:
                payload.facts[key] = {**event, "rank": ranks.rank} if ranks.several else event
        if ranks.several:
            ranks.send(step, payload)
        else:
            self._tell(step, payload)

    def _tell(self, step: int, payload: Payload) -> None:
        assert self._reader is not None
        self._receiver.looked(self._reader.record(step, payload))
