from math import sqrt

import pytest
import torch
from torch import Tensor

from crosshead.rivals.axial import AxialBlock


def attend(q: Tensor, k: Tensor, v: Tensor, present: Tensor) -> Tensor:
    """Lines of one channel of one sample, `(lines, length)`; those without a token are left out."""
    used = [j for j in range(len(k)) if present[j].any()]
    out = []
    for i in range(len(q)):
        logits = torch.stack([(q[i] * k[j]).sum() / sqrt(q.shape[1]) for j in used])
        out.append(sum(weight * v[j] for weight, j in zip(logits.softmax(0), used, strict=True)))
    return torch.stack(out)


@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("grid", [(3, 2), (2, 5), (1, 3)])
def test_channels_attend_over_rows_and_columns_and_talk_in_the_convolution(
    assert_equal_to_formula, grid, masked
):
    layer = AxialBlock(4, 2, grid=grid)

    def formula(x: Tensor, valid: Tensor) -> Tensor:
        samples = []
        for b in range(len(x)):
            present = valid[b].reshape(grid)
            channels = []
            for c in range(4):
                image = x[b, :, c].reshape(grid)
                q, k, v = (
                    (image * conv.weight[c, 0, 0, 0] + bias_of(conv)[c]) * present
                    for conv in (layer.query, layer.key, layer.value)
                )
                both = attend(q, k, v, present) + attend(q.T, k.T, v.T, present.T).T
                channels.append(both * present)
            image = torch.stack(channels)
            samples.append(
                torch.stack([taps(layer.mix, image, i, j) for i in range(grid[0]) for j in range(grid[1])])
            )
        return torch.stack(samples)

    assert_equal_to_formula(layer, formula, grid=grid, masked=masked)


def bias_of(conv: torch.nn.Conv2d) -> Tensor:
    assert conv.bias is not None
    return conv.bias


def taps(conv: torch.nn.Conv2d, image: Tensor, i: int, j: int) -> Tensor:
    """A 3 x 3 convolution at one place, zeros outside."""
    total = bias_of(conv)
    for down in range(3):
        for across in range(3):
            row, column = i + down - 1, j + across - 1
            if 0 <= row < image.shape[1] and 0 <= column < image.shape[2]:
                total = total + conv.weight[:, :, down, across] @ image[:, row, column]
    return total


def test_num_heads_changes_nothing():
    one, four = (AxialBlock(8, heads, grid=(3, 4)) for heads in (1, 4))
    four.load_state_dict(one.state_dict())
    x = torch.randn(2, 12, 8)
    torch.testing.assert_close(one(x, grid=(3, 4)), four(x, grid=(3, 4)))
