"""What needs ../shared or PyTorch is marked, and skipped where it is missing, with the reason."""

import importlib.util
from pathlib import Path

import pytest

SHARED = Path(__file__).resolve().parents[2] / "shared"


def pytest_collection_modifyitems(items):
    missing = {}
    if not SHARED.is_dir():
        missing["shared"] = f"the real images and weights of {SHARED} are not here"
    if importlib.util.find_spec("torch") is None:
        missing["torch"] = "PyTorch is not installed"
    for item in items:
        for marker in item.iter_markers():
            if marker.name in missing:
                item.add_marker(pytest.mark.skip(reason=missing[marker.name]))


@pytest.fixture(scope="session")
def shared():
    """The folder with real images and weights; use together with the marker `shared`."""
    return SHARED
