"""Nystromformer and agents with talking heads, against their packages and against dense formulas."""

from math import prod

import nystrom_attention
import pytest
import torch
from agent_attention_pytorch import AgentSelfAttention
from torch import Tensor
from torch.nn import functional as F

from crosshead.rivals.landmark import AgentTalkingHeads, NystromAttention

GRID = (4, 5)
# Segments without a rest, with one token to fill up, and with one that is filled up altogether.
SEGMENTS = [(2, 2), (1, 3), (2, 3)]
HOLES = torch.stack([torch.arange(20) < 17, torch.arange(20) % 3 > 0])


def drawn(kind: type, landmarks: tuple[int, int], **options) -> tuple:
    torch.manual_seed(0)
    layer = kind(16, 4, grid=GRID, landmarks=landmarks, **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    return layer, torch.randn(2, 20, 16, dtype=torch.float64)


@pytest.mark.parametrize("mask", [None, HOLES])
@pytest.mark.parametrize("landmarks", SEGMENTS)
@pytest.mark.parametrize("convolution", [False, True])
def test_without_the_bias_it_is_the_packages_layer(convolution, landmarks, mask):
    layer, x = drawn(NystromAttention, landmarks, convolution=convolution, qkv_bias=False)
    package = nystrom_attention.NystromAttention(
        16, dim_head=4, heads=4, num_landmarks=prod(landmarks), residual=convolution
    ).double()
    package.load_state_dict(layer.layer.state_dict())
    padded = 20 % package.num_landmarks > 0
    told = torch.ones(2, 20, dtype=torch.bool) if padded and mask is None else mask
    seen = slice(None) if mask is None else mask
    assert torch.equal(layer(x, grid=GRID, key_mask=mask)[seen], package(x, mask=told)[seen])


def softmax_of(logits: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Rows that sum to one over the columns that take part; rows that do not are level over all columns."""
    lowest = torch.finfo(logits.dtype).min
    return logits.masked_fill(~(rows[:, None] & columns), lowest).softmax(1)


def pseudo_inverses(middles: list[Tensor]) -> list[Tensor]:
    """Six steps from a start that is common to all heads and samples."""
    largest = max(m.sum(1).max().item() for m in middles) * max(m.sum(0).max().item() for m in middles)
    found = []
    for middle in middles:
        inverse, identity = middle.T / largest, torch.eye(len(middle), dtype=middle.dtype)
        for _ in range(6):
            product = middle @ inverse
            step = 15 * identity - product @ (7 * identity - product)
            inverse = inverse @ (13 * identity - product @ step) / 4
        found.append(inverse)
    return found


def dense_nystrom(layer: NystromAttention, x: Tensor, mask: Tensor, cells: int) -> Tensor:
    """The equation head by head; `mask` says which of the `N` tokens take part."""
    weights, front = layer.layer, -x.shape[1] % cells
    x, mask = F.pad(x, (0, 0, front, 0)), F.pad(mask, (front, 0))
    segment = torch.arange(x.shape[1]) // (x.shape[1] // cells)
    maps, middles = [], []
    for sample, here in zip(x, mask, strict=True):
        members = torch.stack([(segment == cell) & here for cell in range(cells)])
        some = members.any(1)
        means = members / members.sum(1, keepdim=True).clamp(min=1).to(x.dtype)
        q, k, v = ((sample @ weights.to_qkv.weight.T + weights.to_qkv.bias) * here[:, None]).chunk(3, 1)
        for own in torch.arange(16).chunk(4):
            pooled_q, pooled_k = means @ q[:, own], means @ k[:, own]
            left = softmax_of(q[:, own] @ pooled_k.T / 2, here, some)
            right = softmax_of(pooled_q @ k[:, own].T / 2, some, here)
            middles.append(softmax_of(pooled_q @ pooled_k.T / 2, some, some))
            maps.append((left, right, v[:, own]))
    heads = []
    for index, ((left, right, v), inverse) in enumerate(zip(maps, pseudo_inverses(middles), strict=True)):
        out = left @ inverse @ right @ v
        if weights.residual:
            filters = weights.res_conv.weight[index % 4, :, :, 0][:, None]
            out = out + F.conv1d(v.T[:, None], filters, padding=16)[:, 0].T
        heads.append(out[front:])
    merged = torch.stack([torch.cat(heads[at : at + 4], 1) for at in range(0, len(heads), 4)])
    return merged @ weights.to_out[0].weight.T + weights.to_out[0].bias


@pytest.mark.parametrize("mask", [None, HOLES])
@pytest.mark.parametrize("landmarks", SEGMENTS)
@pytest.mark.parametrize("convolution", [False, True])
def test_it_is_a_product_of_three_maps(convolution, landmarks, mask):
    layer, x = drawn(NystromAttention, landmarks, convolution=convolution)
    valid = torch.ones(2, 20, dtype=torch.bool) if mask is None else mask
    expected = dense_nystrom(layer, x, valid, prod(landmarks))
    actual = layer(x, grid=GRID, key_mask=mask)
    torch.testing.assert_close(actual[valid], expected[valid], rtol=1e-10, atol=1e-10)


def test_zeros_that_fill_up_segments_have_no_say():
    layer, x = drawn(NystromAttention, (1, 3), qkv_bias=False)
    assert not torch.allclose(layer(x, grid=GRID), layer.layer(x), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mask", [None, HOLES])
def test_without_biases_agents_are_those_of_the_package(mask):
    layer, x = drawn(AgentTalkingHeads, (2, 3), qkv_bias=False, proj_bias=False)
    package = AgentSelfAttention(16, num_agent_tokens=6, dim_head=4, heads=4).double()
    package.load_state_dict(layer.layer.state_dict())
    assert torch.equal(layer(x, grid=GRID, key_mask=mask), package(x, mask=mask))


@pytest.mark.parametrize("mask", [None, HOLES])
def test_agents_collect_values_and_heads_talk_on_both_maps(mask):
    layer, x = drawn(AgentTalkingHeads, (2, 3))
    weights = layer.layer
    linear, gate, project = weights.to_qkv[0], weights.to_gates[0], weights.to_out[-1]
    mix_left, mix_right = (
        conv.weight[:, :, 0, 0] for conv in (weights.qa_talking_heads, weights.ak_talking_heads)
    )
    for index, found in enumerate(layer(x, grid=GRID, key_mask=mask)):
        here = torch.ones(20, dtype=torch.bool) if mask is None else mask[index]
        sample = x[index][here]
        q, k, v = (sample @ linear.weight.T + linear.bias).chunk(3, 1)
        left, right = [], []
        for h, own in enumerate(torch.arange(16).chunk(4)):
            left.append((q[:, own] @ weights.agent_tokens[h].T / 2).softmax(1))
            right.append((weights.agent_tokens[h] @ k[:, own].T / 2).softmax(1))
        open_by = torch.sigmoid(sample @ gate.weight.T + gate.bias)
        heads = []
        for g, own in enumerate(torch.arange(16).chunk(4)):
            to_agents = torch.einsum("h,hnl->nl", mix_left[g], torch.stack(left))
            to_keys = torch.einsum("h,hln->ln", mix_right[g], torch.stack(right))
            heads.append(open_by[:, g, None] * (to_agents @ to_keys @ v[:, own]))
        expected = torch.cat(heads, 1) @ project.weight.T + project.bias
        torch.testing.assert_close(found[here], expected, rtol=1e-11, atol=1e-11)


@pytest.mark.parametrize("kind", [NystromAttention, AgentTalkingHeads])
def test_biases_that_the_package_lacks_begin_at_zero(kind):
    layer = kind(16, 4, grid=GRID)
    (qkv,) = (m for m in layer.modules() if isinstance(m, torch.nn.Linear) and m.out_features == 48)
    assert not qkv.bias.any()
