import subprocess
import sys

import pytest

import crosshead.data


def test_importing_the_package_imports_none_of_the_heavy_libraries():
    heavy = ("torch", "torchvision", "sklearn", "numpy", "PIL")
    script = f"import sys, crosshead.data; print([name for name in {heavy} if name in sys.modules])"
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"


@pytest.mark.parametrize("name", crosshead.data.__all__)
def test_every_public_name_is_there_and_listed(name):
    assert getattr(crosshead.data, name).__name__ == name
    assert name in dir(crosshead.data)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'load_mnist'"):
        crosshead.data.load_mnist  # pyright: ignore[reportAttributeAccessIssue]
