"""Attention layers `(B, N, C)` to `(B, N, C)`: ours, and the rivals.

Every layer has `H` heads of head dim `D`, and `L` landmarks, agents or projected tokens where it has such.
"""

import math

import torch
from torch import Tensor, nn

from crosshead.attention.module import InteractiveAttention
from crosshead.bench.operands import MIXING_SIZE, WEIGHT_SEED, Setting
from crosshead.rivals.registry import attention_class

RIVALS = {
    "softmax-layer": "softmax",
    "talking-heads-layer": "talking-heads",
    "xca-layer": "xca",
    "linear-layer": "efficientvit",
    "agent-layer": "agent-talking-heads",
    "nystrom-layer": "nystromformer",
    "linformer-layer": "linformer",
    "performer-layer": "performer",
}
# The only one here whose work depends on rows and columns: it convolves. For all others tokens are one row,
# so that they have exactly `L` landmarks.
ON_IMAGES = "linear-layer"


def build_layer(name: str, setting: Setting, tokens: int) -> nn.Module:
    """The layer of a provider, with random weights, in evaluation mode.

    Raises:
        ImportError: If its package is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        layer = _rival(name, setting, tokens) if name in RIVALS else _interactive(setting)
    return layer.to(setting.device, setting.torch_dtype).eval()


def _interactive(setting: Setting) -> nn.Module:
    layer = InteractiveAttention(
        setting.channels, setting.heads, landmarks=(setting.landmarks,), mixing=setting.mixing
    )
    for mixer in (layer.query_mixing, layer.key_mixing):
        for matrix in mixer.parameters():
            nn.init.normal_(matrix, std=MIXING_SIZE)
    return layer


def _rival(name: str, setting: Setting, tokens: int) -> nn.Module:
    rows = next(n for n in range(math.isqrt(tokens), 0, -1) if tokens % n == 0) if name == ON_IMAGES else 1
    grid = rows, tokens // rows
    layer = attention_class(RIVALS[name])
    return _OnGrid(layer(setting.channels, setting.heads, grid=grid, landmarks=(1, setting.landmarks)), grid)


class _OnGrid(nn.Module):
    """A layer that is always called with one grid."""

    def __init__(self, layer: nn.Module, grid: tuple[int, int]) -> None:
        super().__init__()
        self.layer = layer
        self.grid = grid

    def forward(self, x: Tensor) -> Tensor:
        return self.layer(x, grid=self.grid)
