"""Talking heads, against timm's layer and against the equation."""

import torch
from timm.models.cait import TalkingHeadAttn

from crosshead.rivals.cross_head import TalkingHeads

GRID = (3, 4)


def drawn() -> tuple[TalkingHeads, torch.Tensor]:
    torch.manual_seed(0)
    layer = TalkingHeads(16, 4, grid=GRID).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer, torch.randn(2, 12, 16, dtype=torch.float64)


def test_it_is_timms_layer():
    layer, x = drawn()
    package = TalkingHeadAttn(16, 4, qkv_bias=True).double()
    package.load_state_dict(layer.layer.state_dict())
    assert torch.equal(layer(x, grid=GRID), package(x))


def test_it_is_softmax_between_two_mixtures_of_heads():
    layer, x = drawn()
    weights = layer.layer
    outputs = []
    for sample in x:
        q, k, v = (sample @ weights.qkv.weight.T + weights.qkv.bias).reshape(12, 3, 4, 4).unbind(1)
        logits = [q[:, h] @ k[:, h].T / 4**0.5 for h in range(4)]
        mixed = [
            sum(weights.proj_l.weight[g, h] * logits[h] for h in range(4)) + weights.proj_l.bias[g]
            for g in range(4)
        ]
        maps = [logit.exp() / logit.exp().sum(1, keepdim=True) for logit in mixed]
        heads = []
        for g in range(4):
            told = sum(weights.proj_w.weight[g, h] * maps[h] for h in range(4)) + weights.proj_w.bias[g]
            heads.append(told @ v[:, g])
        outputs.append(torch.cat(heads, 1) @ weights.proj.weight.T + weights.proj.bias)
    torch.testing.assert_close(layer(x, grid=GRID), torch.stack(outputs), rtol=1e-11, atol=1e-11)


def test_with_identities_for_mixtures_it_is_softmax_attention():
    layer, x = drawn()
    for mixture in (layer.layer.proj_l, layer.layer.proj_w):
        torch.nn.init.eye_(mixture.weight)
        torch.nn.init.zeros_(mixture.bias)
    q, k, v = layer.layer.qkv(x).reshape(2, 12, 3, 4, 4).permute(2, 0, 3, 1, 4)
    plain = torch.nn.functional.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
    torch.testing.assert_close(layer(x, grid=GRID), layer.layer.proj(plain), rtol=1e-11, atol=1e-11)
