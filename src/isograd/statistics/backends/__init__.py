"""Backends: ways of reading a tensor into a row; one file each, the fastest that works is taken."""

from functools import cache

from isograd.catalogue import Catalogue
from isograd.statistics.backends._backend import Backend, Target

BACKENDS: Catalogue[Backend] = Catalogue(__name__, Backend)  # type: ignore[type-abstract]  # only subclasses

__all__ = ["BACKENDS", "Backend", "Target", "best"]


@cache
def best(device: str) -> Backend:
    """The backend with the highest rank that reads this type of device and works here."""
    serving = [one for one in BACKENDS if device in one.devices and one.missing() is None]
    return max(serving, key=lambda one: one.rank) if serving else BACKENDS["graph"]
