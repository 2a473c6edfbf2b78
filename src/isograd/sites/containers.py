"""Lists, dicts, sets and deques that get back what they held."""

from collections import deque
from typing import Any


def differs(value: Any, content: Any) -> bool:
    """Whether a container holds other objects than its copy, compared by identity."""
    if len(value) != len(content):
        return True
    if not content:
        return False
    if isinstance(value, dict):
        return any(k not in value or value[k] is not item for k, item in content.items())
    if isinstance(value, set):
        return bool(value != content)
    return any(a is not b for a, b in zip(value, content, strict=True))


def put_back(value: Any, content: Any) -> None:
    """Fills a container with the objects of its copy, if it holds others."""
    if differs(value, content):
        value.clear()
        value.extend(content) if isinstance(value, (list, deque)) else value.update(content)
