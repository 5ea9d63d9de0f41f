"""Adapters find the classes of other libraries late, and give their projections the biases asked for."""

import subprocess
import sys

import pytest
import torch
from torch import nn

from crosshead.rivals import MECHANISMS
from crosshead.rivals.adapter import library_class, set_bias

PACKAGES = {
    "talking-heads": ("timm.models.cait", "timm"),
    "differential": ("timm.layers", "timm"),
    "linformer": ("linformer", "linformer"),
    "performer": ("performer_pytorch", "performer-pytorch"),
    "nystromformer": ("nystrom_attention", "nystrom-attention"),
    "agent-talking-heads": ("agent_attention_pytorch", "agent-attention-pytorch"),
    "xca": ("timm.models.xcit", "timm"),
    "efficientvit": ("timm.models.efficientvit_mit", "timm"),
}


@pytest.mark.parametrize("name", PACKAGES)
def test_a_missing_package_is_named_with_the_remedy(name, monkeypatch):
    module, package = PACKAGES[name]
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ImportError, match=rf"needs the package {package}: pip install 'crosshead\[rivals\]'"):
        MECHANISMS[name](16, 4, grid=(4, 4))


def test_no_library_is_imported_before_its_layer_is_built():
    libraries = {module.partition(".")[0] for module, _ in PACKAGES.values()}
    check = f"import sys, crosshead.rivals; sys.exit(bool({libraries} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", check], check=False).returncode == 0


def test_the_class_is_that_of_the_library():
    assert library_class("torch.nn", "Linear", package="torch") is nn.Linear


@pytest.mark.parametrize("before", [False, True])
def test_a_bias_is_there_when_it_is_wanted(before):
    layer = nn.Linear(3, 5, bias=before, dtype=torch.float64)
    own = layer.bias
    set_bias(layer, wanted=True)
    assert layer.bias.shape == (5,)
    assert layer.bias.dtype == torch.float64
    if before:
        assert layer.bias is own
    else:
        assert not layer.bias.any()
    set_bias(layer, wanted=False)
    assert [name for name, _ in layer.named_parameters()] == ["weight"]
