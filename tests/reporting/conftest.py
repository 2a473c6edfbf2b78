import pytest
from made_diagnoses import MAKERS


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
