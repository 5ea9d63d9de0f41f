"""What of a detector becomes a graph, and what stays around that."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from crosshead.export.objects import fraction_shared
from crosshead.tasks.detect.data import DetectMeta
from crosshead.tasks.detect.from_file import FileDetector
from crosshead.tasks.detect.net import build_detector
from crosshead.tasks.detect.scaled import NeverEmpty, ScaledDetector

KINDS = ("faster-rcnn", "mask-rcnn", "retinanet")
LOOK = {"in_chans": 3, "mean": (0.4, 0.5, 0.6), "std": (0.2, 0.3, 0.25)}
META = DetectMeta(classes=("cat", "dog"), category_ids=(1, 2), masks=False, min_size=48, max_size=80, **LOOK)


class Direct(nn.Module):
    """Gives outputs as a file does."""

    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def outputs(self, *inputs: Tensor) -> list[Tensor]:
        return list(self.net(*inputs))


@pytest.fixture
def build():
    """A detector that finds much in noise: `build("retinanet")`."""

    def make(kind: Any) -> Any:
        torch.manual_seed(0)
        net: Any = build_detector(
            kind,
            "test_resnet",
            num_classes=2,
            min_size=48,
            max_size=80,
            anchor_sizes=(4, 8, 16, 24, 32),
            pyramid_dim=16,
            **LOOK,
        )
        with torch.no_grad():
            for parameter in net.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.05)
            if kind == "retinanet":
                net.head.classification_head.cls_logits.bias.fill_(-2)
        return net.eval()

    return make


def image(height: int, width: int) -> Tensor:
    return torch.rand(3, height, width, generator=torch.Generator().manual_seed(height))


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_scaling_around_the_rest_is_the_detector(kind, build):
    net = build(kind)
    rest = ScaledDetector(net)
    whole = FileDetector(Direct(rest), META, min_score=rest.min_score).eval()
    images = [image(30, 50), image(96, 41), image(64, 64)]
    found, expected = whole(images), [net([one])[0] for one in images]
    for mine, theirs in zip(found, expected, strict=True):
        assert len(theirs["boxes"]) > 10
        assert mine.keys() == theirs.keys()
        for name in theirs:
            torch.testing.assert_close(mine[name], theirs[name])
    assert (rest.mask_side is not None) == ("masks" in expected[0]) == (kind == "mask-rcnn")


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_a_score_leaves_objects_out(kind, build):
    net = build(kind)
    rest, given = ScaledDetector(net), torch.randn(1, 3, 50, 70)
    boxes, _, scores, *masks = rest(given, torch.tensor(0.0))
    middle = scores.median()
    fewer = rest(given, middle)
    assert 0 < len(fewer[0]) < len(boxes)
    assert (fewer[2] > middle).all()
    none = rest(given, torch.tensor(1.0))
    assert [tuple(output.shape) for output in none] == [
        (0, 4),
        (0,),
        (0,),
        *((0, rest.mask_side, rest.mask_side) for _ in masks),
    ]
    # The detector itself keeps its own.
    assert getattr(net, "roi_heads", net).score_thresh == rest.min_score == 0.05


@pytest.mark.parametrize("kind", KINDS)
@torch.no_grad()
def test_what_a_graph_holds_gives_the_same(kind, build, monkeypatch):
    rest, given = ScaledDetector(build(kind)), torch.randn(1, 3, 70, 50)
    for least in (0.0, 0.05, 1.0):
        expected = rest(given, torch.tensor(least))
        with monkeypatch.context() as exporting:
            exporting.setattr(torch.compiler, "is_exporting", lambda: True)
            found = rest(given, torch.tensor(least))
        assert [output.shape for output in found] == [output.shape for output in expected]
        assert fraction_shared(found, expected) == 1
        torch.testing.assert_close(found[2], expected[2])


@torch.no_grad()
def test_a_detector_computes_in_float64(build):
    (found,) = build("faster-rcnn").double()([image(40, 50).double()])
    assert found["boxes"].dtype == found["scores"].dtype == torch.float64


def test_a_module_is_never_given_nothing():
    norm = nn.GroupNorm(2, 4)
    assert NeverEmpty(norm)(torch.zeros(0, 4, 3, 3)).shape == (0, 4, 3, 3)
    x = torch.randn(5, 4, 3, 3)
    torch.testing.assert_close(NeverEmpty(norm)(x), norm(x))
