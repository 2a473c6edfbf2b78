import sys
from pathlib import Path

import pytest
from made_diagnoses import MAKERS

sys.path.insert(0, str(Path(__file__).parent.parent / "storage"))  # made runs


@pytest.fixture(params=MAKERS)
def any_diagnosis(request):
    return MAKERS[request.param]()


@pytest.fixture
def sick():
    return MAKERS["sick"]()


@pytest.fixture
def healthy():
    return MAKERS["healthy"]()


@pytest.fixture
def deep():
    return MAKERS["deep"]()


@pytest.fixture
def hostile():
    return MAKERS["hostile"]()
