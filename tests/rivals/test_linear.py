import pytest
import torch
from torch import Tensor

from crosshead.rivals.linear import EfficientAttention, HydraAttention


@pytest.mark.parametrize("masked", [False, True])
def test_efficient_attention_normalises_queries_over_features_and_keys_over_tokens(
    assert_equal_to_formula, between_projections, masked
):
    layer = EfficientAttention(12, 3, grid=(5, 3))

    def heads(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        by_feature = q.exp() / q.exp().sum(-1, keepdim=True)
        shown = k.exp() * valid[:, None, :, None]
        by_token = shown / shown.sum(-2, keepdim=True)
        dense_map = by_feature @ by_token.mT
        torch.testing.assert_close(dense_map.sum(-1), torch.ones_like(dense_map[..., 0]))
        return dense_map @ v

    assert_equal_to_formula(layer, between_projections(layer, heads), grid=(5, 3), masked=masked)


@pytest.mark.parametrize("masked", [False, True])
def test_hydra_attention_has_as_many_maps_as_channels(assert_equal_to_formula, between_projections, masked):
    layer = HydraAttention(12, 3, grid=(5, 3))

    def heads(q: Tensor, k: Tensor, v: Tensor, valid: Tensor) -> Tensor:
        q, k, v = (torch.cat(list(x.unbind(1)), dim=-1) for x in (q, k, v))
        q, k = (x / (x * x).sum(-1, keepdim=True).sqrt() for x in (q, k))
        maps = torch.einsum("bic,bjc->bcij", q, k).masked_fill(~valid[:, None, None], 0)
        out = torch.einsum("bcij,bjc->bic", maps, v)
        return torch.stack(out.split(layer.head_dim, dim=-1), dim=1)

    assert_equal_to_formula(layer, between_projections(layer, heads), grid=(5, 3), masked=masked)


def test_hydra_attention_is_the_same_for_any_number_of_heads():
    one, four = (HydraAttention(16, heads, grid=(3, 3)) for heads in (1, 4))
    four.load_state_dict(one.state_dict())
    x = torch.randn(2, 9, 16)
    torch.testing.assert_close(one(x, grid=(3, 3)), four(x, grid=(3, 3)))


def test_hydra_attention_bears_tokens_without_any_query_and_key():
    layer = HydraAttention(8, 2, grid=(2, 2), qkv_bias=False)
    x = torch.zeros(1, 4, 8, requires_grad=True)
    layer(x, grid=(2, 2)).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
