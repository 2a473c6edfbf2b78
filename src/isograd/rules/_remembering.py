"""Remembering what was read off a record or reading, for as long as that exists."""

from collections.abc import Callable
from functools import wraps
from typing import TypeVar
from weakref import ref

from isograd.records import Reading, Record

Given = TypeVar("Given", Reading, Record)
Found = TypeVar("Found")


def remembered(function: Callable[[Given], Found]) -> Callable[[Given], Found]:
    """The function, computed once for each object that it is called with.

    Records are many in a watched run and are judged again at every look; several rules ask the
    same of one. Objects are told apart by identity: comparing them would cost more.
    """
    kept: dict[int, tuple[ref[Given], Found]] = {}

    @wraps(function)
    def call(given: Given) -> Found:
        key = id(given)
        entry = kept.get(key)
        if entry is not None and entry[0]() is given:
            return entry[1]
        found = function(given)
        kept[key] = (ref(given, lambda _: kept.pop(key, None)), found)
        return found

    return call
