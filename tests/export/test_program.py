"""What a graph is made of."""

import pytest
import torch
from torch import nn

from crosshead import InteractiveAttention
from crosshead.export.describe import accepted_multiple
from crosshead.export.program import AdaptivePool, check_sizes, prepared, trace, traced_size
from crosshead.runs.folder import RunError
from crosshead.tasks.interface import Interface, NetInput

IMAGE = NetInput(name="images", channels=3, scale=255.0, mean=(0.5,) * 3, std=(0.25,) * 3)


def interface(size: int, **changes) -> Interface:
    whole = {"inputs": (IMAGE,), "output": "logits", "axes": ("batch", "class"), "method": "forward"}
    return Interface(trained=(size, size), **{**whole, **changes})


@pytest.mark.parametrize("size", [(1, 1), (7, 10), (13, 6), (3, 2)])
@pytest.mark.parametrize("cells", [(6, 6), (3, 2)])
def test_pooling_by_products_is_adaptive_pooling(size, cells):
    x = torch.randn(2, 4, *size, dtype=torch.float64)
    torch.testing.assert_close(AdaptivePool(*cells)(x), nn.AdaptiveAvgPool2d(cells)(x))


def test_a_prepared_net_is_plain_and_its_model_unchanged():
    net = nn.Sequential(InteractiveAttention(8, 2, landmarks=(2,), impl="streamed"), nn.AdaptiveAvgPool2d(2))
    net.grad_checkpointing = True  # pyright: ignore[reportArgumentType]
    plain = prepared(net)
    assert (plain[0].impl, plain.grad_checkpointing) == ("reference", False)  # pyright: ignore
    assert isinstance(plain[1], AdaptivePool)  # pyright: ignore
    assert net[0].impl == "streamed"
    assert isinstance(net[1], nn.AdaptiveAvgPool2d)


class Patches(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if images.shape[-2] % 4 or images.shape[-1] % 3:
            raise AssertionError("patches of 4 x 3 pixels")
        return images.mean((2, 3))


class OneSize(nn.Module):
    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return (images - torch.zeros(24, 24)).mean((2, 3))


def test_sizes_are_found_by_trying():
    assert accepted_multiple(Patches(), interface(24)) == (4, 3)
    assert accepted_multiple(nn.Conv2d(3, 1, 1), interface(24)) == (1, 1)
    assert accepted_multiple(OneSize(), interface(24)) is None


@pytest.mark.parametrize("side", [1, 8, 28, 224, 518])
def test_sizes_to_check_with_are_not_traced(side):
    free = interface(side, multiple=(14, 14) if side == 518 else (1, 1))
    assert traced_size(free) not in check_sizes(free)
    assert check_sizes(free)[0] == (side, side)
    assert check_sizes(free)[1] != (side, side)


def test_a_net_that_cannot_be_traced_is_refused_in_one_line():
    class Deciding(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            return images if images.sum() > 0 else -images

    with pytest.raises(RunError, match=r"^the net cannot be traced by torch.export: [^\n]+$"):
        trace(Deciding(), interface(8))
