"""Linformer, against the package's layer and against equation (7) of the paper."""

import torch
from linformer import LinformerSelfAttention

from crosshead.rivals.low_rank import LinformerAttention

GRID, LANDMARKS = (3, 4), (2, 3)


def drawn(**options) -> tuple[LinformerAttention, torch.Tensor]:
    torch.manual_seed(0)
    layer = LinformerAttention(16, 4, grid=GRID, landmarks=LANDMARKS, **options).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter, std=0.5)
    return layer, torch.randn(2, 12, 16, dtype=torch.float64)


def test_without_the_biases_it_is_the_packages_layer():
    layer, x = drawn(qkv_bias=False)
    package = LinformerSelfAttention(16, 12, k=6, heads=4).double()
    package.load_state_dict(layer.layer.state_dict())
    assert torch.equal(layer(x, grid=GRID), package(x))


def test_biases_that_the_package_lacks_begin_at_zero():
    layer = LinformerAttention(16, 4, grid=GRID)
    assert not any(
        projection.bias.any() for projection in (layer.layer.to_q, layer.layer.to_k, layer.layer.to_v)
    )


def test_it_is_softmax_over_projected_keys_and_values():
    layer, x = drawn()
    weights = layer.layer
    outputs = []
    for sample in x:
        q, k, v = (
            sample @ linear.weight.T + linear.bias for linear in (weights.to_q, weights.to_k, weights.to_v)
        )
        keys, values = weights.proj_k.T @ k, weights.proj_v.T @ v
        heads = []
        for own in torch.arange(16).chunk(4):
            scores = (q[:, own] @ keys[:, own].T / 4**0.5).exp()
            heads.append(scores / scores.sum(1, keepdim=True) @ values[:, own])
        outputs.append(torch.cat(heads, 1) @ weights.to_out.weight.T + weights.to_out.bias)
    torch.testing.assert_close(layer(x, grid=GRID), torch.stack(outputs), rtol=1e-11, atol=1e-11)
    assert keys.shape == (6, 16)


def test_keys_and_values_may_share_a_projection():
    layer, x = drawn(share_key_value=True)
    own, _ = drawn()
    own.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer(x, grid=GRID), own(x, grid=GRID), rtol=1e-12, atol=1e-12)
    saved = sum(p.numel() for p in own.parameters()) - sum(p.numel() for p in layer.parameters())
    assert saved == 12 * 6
