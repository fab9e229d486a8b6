import pytest


@pytest.fixture(autouse=True, scope="module")
def tiny(one_thread):
    """All arrays of the tasks are."""
