"""Attention layers `(B, N, C)` to `(B, N, C)`; whatever is optional is imported when it is built.

Every layer has `H` heads of head dim `D`, and `L` landmarks, agents or projected tokens where it has such.
All else is as its package has it by default.
"""

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn

from crosshead.attention.module import InteractiveAttention
from crosshead.bench.operands import MIXING_SIZE, WEIGHT_SEED, Setting


def build_layer(name: str, setting: Setting, tokens: int) -> nn.Module:
    """The layer of a provider, with random weights, in evaluation mode.

    Raises:
        ImportError: If its package is not installed.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHT_SEED)
        layer = _BUILDERS[name](setting, tokens)
    return layer.to(setting.device, setting.torch_dtype).eval()


def _interactive(setting: Setting, tokens: int) -> nn.Module:
    layer = InteractiveAttention(
        setting.channels, setting.heads, landmarks=(setting.landmarks,), mixing=setting.mixing
    )
    for mixer in (layer.query_mixing, layer.key_mixing):
        for matrix in mixer.parameters():
            nn.init.normal_(matrix, std=MIXING_SIZE)
    return layer


def _softmax(setting: Setting, tokens: int) -> nn.Module:
    from timm.layers import Attention

    return Attention(setting.channels, num_heads=setting.heads, qkv_bias=True)


def _talking_heads(setting: Setting, tokens: int) -> nn.Module:
    from timm.models.cait import TalkingHeadAttn

    return TalkingHeadAttn(setting.channels, num_heads=setting.heads, qkv_bias=True)


def _xca(setting: Setting, tokens: int) -> nn.Module:
    from timm.models.xcit import XCA

    return XCA(setting.channels, num_heads=setting.heads, qkv_bias=True)


def _linear(setting: Setting, tokens: int) -> nn.Module:
    from timm.models.efficientvit_mit import LiteMLA

    return _OnGrid(
        LiteMLA(setting.channels, setting.channels, heads=setting.heads, dim=setting.head_dim), tokens
    )


def _agent(setting: Setting, tokens: int) -> nn.Module:
    from agent_attention_pytorch import AgentSelfAttention

    return AgentSelfAttention(
        setting.channels, num_agent_tokens=setting.landmarks, dim_head=setting.head_dim, heads=setting.heads
    )


def _nystrom(setting: Setting, tokens: int) -> nn.Module:
    from nystrom_attention import NystromAttention

    return NystromAttention(
        setting.channels, dim_head=setting.head_dim, heads=setting.heads, num_landmarks=setting.landmarks
    )


def _linformer(setting: Setting, tokens: int) -> nn.Module:
    from linformer import LinformerSelfAttention

    return LinformerSelfAttention(setting.channels, tokens, k=setting.landmarks, heads=setting.heads)


def _performer(setting: Setting, tokens: int) -> nn.Module:
    from performer_pytorch import SelfAttention

    return SelfAttention(setting.channels, heads=setting.heads, dim_head=setting.head_dim)


class _OnGrid(nn.Module):
    """A layer of images given tokens, on the grid of `N` cells that is nearest to a square."""

    def __init__(self, layer: nn.Module, tokens: int) -> None:
        super().__init__()
        self.layer = layer
        self.height = next(n for n in range(math.isqrt(tokens), 0, -1) if tokens % n == 0)

    def forward(self, x: Tensor) -> Tensor:
        image = x.mT.unflatten(2, (self.height, -1))
        return self.layer(image).flatten(2).mT


_BUILDERS: dict[str, Callable[[Setting, int], nn.Module]] = {
    "interactive-layer": _interactive,
    "softmax-layer": _softmax,
    "talking-heads-layer": _talking_heads,
    "xca-layer": _xca,
    "linear-layer": _linear,
    "agent-layer": _agent,
    "nystrom-layer": _nystrom,
    "linformer-layer": _linformer,
    "performer-layer": _performer,
}
