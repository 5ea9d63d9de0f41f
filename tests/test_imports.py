"""What importing loads, each in a fresh process: no heavy library early, and no name without a home."""

import json
import subprocess
import sys

import pytest

import crosshead

HEAVY = (
    "torch",
    "timm",
    "torchvision",
    "lightning",
    "pytorch_lightning",
    "triton",
    "torchmetrics",
    "matplotlib",
)


def loaded_after(statement: str) -> set[str]:
    """Top-level packages in a fresh process that has run one statement."""
    code = f"{statement}\nimport json, sys\nprint(json.dumps(sorted(sys.modules)))"
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in json.loads(process.stdout.splitlines()[-1])}


def test_importing_the_package_loads_no_heavy_library():
    assert not loaded_after("import crosshead; crosshead.__version__; dir(crosshead)") & set(HEAVY)


def test_the_cost_model_loads_no_heavy_library():
    assert not loaded_after("import crosshead.measure.cost") & set(HEAVY)


def test_the_attention_core_loads_nothing_but_torch():
    # The operator registers its FLOP formula, and torch's own counter imports triton where there is one.
    with_torch = loaded_after("import torch, torch.utils.flop_counter")
    with_core = loaded_after("import crosshead.attention.module, crosshead.attention.functional")
    assert with_core - with_torch - set(sys.stdlib_module_names) == {"crosshead"}


def test_the_test_helpers_load_no_test_tool():
    names = "inputs, kernel, jitter, oracle, dense_layer, memory"
    loaded = loaded_after(f"from crosshead.testing import {names}")
    assert "torch" in loaded
    assert not loaded & {"pytest", "hypothesis", "timm"}


def test_the_command_line_answers_without_torch():
    assert not loaded_after("import crosshead.cli.main") & set(HEAVY)


@pytest.mark.parametrize("name", crosshead.__all__)
def test_every_public_name_resolves_and_is_listed(name):
    assert getattr(crosshead, name) is not None
    assert name in dir(crosshead)


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'softmax'"):
        crosshead.softmax
