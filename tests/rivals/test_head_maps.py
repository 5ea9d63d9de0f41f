from math import sqrt

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from crosshead.rivals.head_maps import InterleavedHeads, ReAttention
from crosshead.rivals.softmax import SoftmaxAttention


@pytest.mark.parametrize("training", [True, False])
def test_re_attention_mixes_and_normalises_maps(assert_equal_to_formula, between_projections, training):
    layer = ReAttention(12, 3, grid=(5, 3)).train(training)
    running_mean, running_var = torch.tensor([0.1, -0.2, 0.3]), torch.tensor([0.5, 1.5, 2.0])
    layer.norm.running_mean, layer.norm.running_var = running_mean.clone(), running_var.clone()

    def heads(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        maps = (q @ k.mT / sqrt(layer.head_dim)).softmax(-1)
        mixed = [(layer.theta[:, g, None, None] * maps).sum(1) for g in range(3)]
        out = []
        for g, head in enumerate(mixed):
            mean = head.mean() if training else running_mean.double()[g]
            variance = head.var(correction=0) if training else running_var.double()[g]
            normal = (head - mean) / (variance + 1e-5).sqrt()
            out.append((normal * layer.norm.weight[g] + layer.norm.bias[g]) @ v[:, g])
        return torch.stack(out, dim=1)

    assert_equal_to_formula(layer, between_projections(layer, heads), grid=(5, 3), masked=False)


def test_a_fresh_re_attention_lets_no_head_talk():
    layer = ReAttention(12, 3, grid=(5, 3))
    assert torch.equal(layer.theta, torch.eye(3))


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("num_heads", [1, 3])
def test_interleaved_heads_attend_over_pseudo_tokens(
    assert_equal_to_formula, between_projections, num_heads, masked
):
    layer = InterleavedHeads(6, num_heads, grid=(4, 2))
    every = range(num_heads)

    def heads(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        def pseudo(x: Tensor, mixing: Tensor, h: int) -> list[Tensor]:
            return [(mixing[h, p, :, None, None] * x).sum(1) for p in every]

        out = []
        for h in every:
            # One key axis after the other: the order of pseudo-tokens does not matter to a softmax.
            keys = torch.cat(pseudo(k, layer.key_mixing, h), dim=1)
            values = torch.cat(pseudo(v, layer.value_mixing, h), dim=1)
            hidden = ~torch.cat([valid] * num_heads, dim=1)[:, None]
            collapsed = torch.zeros_like(q[:, h])
            for p, query in enumerate(pseudo(q, layer.query_mixing, h)):
                logits = (query @ keys.mT / sqrt(layer.head_dim)).masked_fill(hidden, -torch.inf)
                collapsed = collapsed + layer.collapse[h, p] * (logits.softmax(-1) @ values)
            out.append(collapsed)
        return torch.stack(out, dim=1)

    assert_equal_to_formula(layer, between_projections(layer, heads), grid=(4, 2), masked=masked)


def test_a_fresh_interleaved_head_looks_with_its_query_through_all_keys_at_its_value():
    layer = InterleavedHeads(12, 3, grid=(4, 2), dtype=torch.float64)
    q, k, v = torch.randn(3, 2, 3, 8, 4, dtype=torch.float64)
    expected = []
    for h in range(3):
        logits = torch.cat([q[:, h] @ k[:, m].mT / 2 for m in range(3)], dim=-1)
        expected.append(logits.softmax(-1) @ torch.cat([v[:, h]] * 3, dim=1))
    torch.testing.assert_close(layer.attend_heads(q, k, v, (4, 2), None), torch.stack(expected, dim=1))


def test_no_two_fresh_pseudo_heads_of_a_head_ask_or_answer_alike():
    layer = InterleavedHeads(16, 4, grid=(4, 2))
    for mixing in (layer.query_mixing, layer.key_mixing):
        assert torch.equal(mixing[:, 0], torch.eye(4))
        for head in mixing:
            assert len({tuple(row) for row in head.tolist()}) == 4


def test_a_fresh_interleaved_layer_of_one_head_is_softmax_attention():
    layer = InterleavedHeads(6, 1, grid=(4, 2))
    plain = SoftmaxAttention(6, 1, grid=(4, 2))
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(2, 8, 6)
    torch.testing.assert_close(layer(x, grid=(4, 2)), plain(x, grid=(4, 2)))


def test_every_pseudo_token_sees_something_whatever_is_masked(monkeypatch):
    masks = []
    monkeypatch.setattr(
        F, "scaled_dot_product_attention", lambda q, k, v, attn_mask: masks.append(attn_mask) or v
    )
    layer = InterleavedHeads(6, 2, grid=(2, 2))
    layer(torch.randn(2, 4, 6), grid=(2, 2), key_mask=torch.arange(8).view(2, 4) == 1)
    assert masks[0].any(-1).all()
