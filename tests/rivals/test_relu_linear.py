"""EfficientViT's attention, against timm's layer and against its equation on full maps."""

import torch
from timm.models.efficientvit_mit import LiteMLA
from torch.nn import functional as F

from crosshead.rivals.relu_linear import ReluLinearAttention

GRID = (3, 4)


def drawn() -> tuple[ReluLinearAttention, torch.Tensor]:
    torch.manual_seed(0)
    layer = ReluLinearAttention(16, 4, grid=GRID).double()
    for name, value in layer.state_dict().items():
        if value.is_floating_point():
            value.uniform_(0.5, 1.5) if "running_var" in name else value.normal_(std=0.5)
    return layer, torch.randn(2, 12, 16, dtype=torch.float64)


def test_it_is_timms_layer_on_the_image_of_the_tokens():
    layer, x = drawn()
    package = LiteMLA(16, 16, heads=4, dim=4, use_bias=(True, False)).double()
    package.load_state_dict(layer.layer.state_dict())
    for training in (True, False):
        image = torch.stack([x[:, 4 * row : 4 * row + 4] for row in range(3)], 1).permute(0, 3, 1, 2)
        expected = package.train(training)(image).permute(0, 2, 3, 1)
        actual = layer.train(training)(x, grid=GRID).reshape(2, 3, 4, 16)
        torch.testing.assert_close(actual, expected, rtol=1e-12, atol=1e-12)


def test_it_is_attention_with_a_map_of_relu_products_at_two_scales():
    layer, x = drawn()
    layer.eval()
    weights = layer.layer
    wide, within = weights.aggreg[0]
    image = x.mT.unflatten(2, GRID)
    own = F.conv2d(image, weights.qkv.conv.weight, weights.qkv.conv.bias)
    gathered = F.conv2d(own, wide.weight, wide.bias, padding=2, groups=48)
    gathered = F.conv2d(gathered, within.weight, within.bias, groups=12)
    heads = []
    for scale in (own, gathered):
        for head in scale.flatten(2).split(12, dim=1):
            q, k, v = head.mT.split(4, dim=2)
            kernel = q.relu() @ k.relu().mT
            heads.append(kernel @ v / (kernel.sum(2, keepdim=True) + 1e-5))
    projected = torch.cat(heads, 2) @ weights.proj.conv.weight[:, :, 0, 0].T
    norm = weights.proj.norm
    expected = (projected - norm.running_mean) / (
        norm.running_var + norm.eps
    ).sqrt() * norm.weight + norm.bias
    # The layer sums in float32 whatever it is given.
    torch.testing.assert_close(layer(x, grid=GRID), expected, rtol=1e-5, atol=1e-5)
