"""Cross-covariance attention, against timm's layer and against the equation of the paper."""

import torch
from timm.models.xcit import XCA

from crosshead.rivals.channel import CrossCovarianceAttention

GRID = (3, 4)


def drawn() -> tuple[CrossCovarianceAttention, torch.Tensor]:
    torch.manual_seed(0)
    layer = CrossCovarianceAttention(16, 4, grid=GRID).double()
    for parameter in layer.parameters():
        torch.nn.init.normal_(parameter)
    return layer, torch.randn(2, 12, 16, dtype=torch.float64)


def test_it_is_timms_layer():
    layer, x = drawn()
    package = XCA(16, 4, qkv_bias=True).double()
    package.load_state_dict(layer.layer.state_dict())
    assert torch.equal(layer(x, grid=GRID), package(x))


def test_it_is_the_values_times_a_map_of_channels():
    layer, x = drawn()
    weights = layer.layer
    outputs = []
    for sample in x:
        q, k, v = (sample @ weights.qkv.weight.T + weights.qkv.bias).reshape(12, 3, 4, 4).unbind(1)
        heads = []
        for h in range(4):
            queries, keys = (m[:, h] / m[:, h].square().sum(0).sqrt() for m in (q, k))
            scores = (weights.temperature[h] * keys.T @ queries).exp()
            channels = scores / scores.sum(0)
            assert channels.shape == (4, 4)
            heads.append(v[:, h] @ channels)
        outputs.append(torch.cat(heads, 1) @ weights.proj.weight.T + weights.proj.bias)
    torch.testing.assert_close(layer(x, grid=GRID), torch.stack(outputs), rtol=1e-11, atol=1e-11)
