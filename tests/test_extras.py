"""Without an extra: what works all the same, and the one line that names what to install."""

import re
import subprocess
import sys

import pytest

from crosshead._extras import needs_extra

# What the extras bring, beside torch and what it needs.
BROUGHT = (
    "PIL",
    "av",
    "captum",
    "docstring_parser",
    "joblib",
    "lightning",
    "matplotlib",
    "numpy",
    "onnx",
    "onnxruntime",
    "pydantic",
    "rich",
    "scipy",
    "sklearn",
    "timm",
    "torchvision",
    "tyro",
)


def run_with_torch_alone(code: str) -> subprocess.CompletedProcess[str]:
    """A fresh process in which nothing that an extra brings can be imported."""
    blocked = f"import sys\nsys.modules.update(dict.fromkeys({BROUGHT}))\n"
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", blocked + code], capture_output=True, text=True, check=False
    )


@pytest.mark.parametrize("arguments", [[], ["--help"], ["--version"], ["info"], ["train", "digits"]])
def test_the_command_line_alone_says_in_one_line_what_to_install(arguments):
    finished = run_with_torch_alone(
        f"sys.argv[1:] = {arguments}\nfrom crosshead.__main__ import main\nmain()"
    )
    assert (finished.returncode, finished.stdout) == (1, "")
    assert re.fullmatch(
        r"error: the command line needs \w+, which is not installed: pip install 'crosshead\[train\]'\n",
        finished.stderr,
    )


def test_with_torch_alone_the_layer_works_and_the_rest_names_its_extra():
    finished = run_with_torch_alone("""
import torch
import crosshead
import crosshead.rivals

layer = crosshead.InteractiveAttention(dim=8, num_heads=2, landmarks=(2, 2))
print(tuple(layer(torch.ones(1, 16, 8), grid=(4, 4)).shape))
try:
    import crosshead.vision
except ImportError as error:
    print(error)
try:
    crosshead.load
except ImportError as error:
    print(error)
""")
    assert finished.returncode == 0, finished.stderr
    shape, vision, load = finished.stdout.splitlines()
    assert shape == "(1, 16, 8)"
    assert vision == "crosshead.vision needs timm, which is not installed: pip install 'crosshead[vision]'"
    assert load == "crosshead.load needs numpy, which is not installed: pip install 'crosshead[train]'"


def test_python_m_runs_the_command_line():
    command = [sys.executable, "-m", "crosshead", "--version"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("crosshead ")


@pytest.mark.parametrize("name", ["crosshead.no_such_room", None])
def test_our_own_faults_and_the_words_of_libraries_pass(name):
    fault = ModuleNotFoundError("as it was", name=name)
    with pytest.raises(ModuleNotFoundError, match="as it was"), needs_extra("train", "this"):
        raise fault
