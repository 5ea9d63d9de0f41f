"""Sizes at which everything takes milliseconds."""

import pytest

from crosshead.bench.providers import Setting


@pytest.fixture
def setting() -> Setting:
    return Setting(heads=2, head_dim=16, landmarks=4)
