"""Every backend that works on this machine, each on tensors of the CPU."""

from collections.abc import Iterator

import pytest

from isograd.statistics._extension import extension
from isograd.statistics.backends import BACKENDS, Backend

NATIVE = extension()
LEVELS = [] if NATIVE is None else NATIVE.levels()
CODES = ["reference", "graph", *(f"native {level}" for level in LEVELS or [""])]


@pytest.fixture(scope="module", params=CODES)
def backend(request: pytest.FixtureRequest) -> Iterator[Backend]:
    """One backend after the other, the native one with every level of instructions."""
    code, _, level = request.param.partition(" ")
    found = BACKENDS[code]
    if (why := found.missing()) is not None:
        pytest.skip(f"{code}: {why}")
    if NATIVE is None or not level:
        yield found
        return
    NATIVE.use(level)
    yield found
    NATIVE.use(LEVELS[-1])
