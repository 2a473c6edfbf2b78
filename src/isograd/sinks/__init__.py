"""Where the readings of a watched run go: one file per sink; adding the file is the registration.

A package of somebody else adds one through the entry-point group `isograd.sinks`.
"""

from isograd.catalogue import Catalogue
from isograd.sinks._hub import Sinks
from isograd.sinks._sink import Sink

SINKS = Catalogue(__name__, Sink)
"""Every sink by its code."""

__all__ = ["SINKS", "Sink", "Sinks"]
