"""Every backend that works on this machine, each on tensors of the CPU."""

import pytest

from isograd.statistics.backends import BACKENDS, Backend

CODES = ["reference", "graph"]


@pytest.fixture(scope="module", params=CODES)
def backend(request: pytest.FixtureRequest) -> Backend:
    """One backend after the other."""
    found = BACKENDS[request.param]
    if (why := found.missing()) is not None:
        pytest.skip(f"{request.param}: {why}")
    return found
