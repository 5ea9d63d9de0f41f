import pytest
import torch
from scipy.ndimage import find_objects, label
from torch import Tensor, nn

from crosshead.tasks.detect.tiles import detect


class Blobs(nn.Module):
    """Finds each connected bright region; it knows no more than the pixels it is given."""

    def __init__(self, *, masks: bool = False, longest: int = 1000) -> None:
        super().__init__()
        self.masks, self.longest, self.sizes = masks, longest, []

    def forward(self, images: list[Tensor]) -> list[dict[str, Tensor]]:
        (image,) = images
        self.sizes.append(tuple(image.shape[1:]))
        regions, count = label(image[0].numpy())  # pyright: ignore[reportGeneralTypeIssues]
        places = find_objects(regions)
        boxes = [[across.start, down.start, across.stop, down.stop] for down, across in places]
        found = {
            "boxes": torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.ones(count, dtype=torch.int64),
            "scores": torch.tensor([image[0][place].sum() for place in places]).reshape(-1) / 1000,
        }
        if self.masks:
            masks = [torch.from_numpy(regions == number) for number in range(1, count + 1)]
            found["masks"] = torch.stack(masks)[:, None] if masks else torch.zeros(0, 1, *image.shape[1:])
        return [found]


def drawn(*boxes: tuple[int, int, int, int], size: tuple[int, int] = (70, 100)) -> Tensor:
    image = torch.zeros(1, *size)
    for left, top, right, bottom in boxes:
        image[:, top:bottom, left:right] = 1
    return image


def boxes_of(found: dict[str, Tensor]) -> set[tuple[int, ...]]:
    return {tuple(int(value) for value in box) for box in found["boxes"].tolist()}


OBJECTS = [
    (1, 2, 7, 9),
    (26, 20, 36, 30),
    (27, 40, 37, 50),
    (60, 0, 66, 5),
    (93, 62, 100, 70),
    (50, 28, 59, 36),
]


@pytest.mark.parametrize("tile", [40, 48, 64, 99])
def test_tiles_find_what_the_whole_image_shows_each_object_once(tile):
    image = drawn(*OBJECTS)
    net = Blobs().eval()
    found = detect(net, image, tile=tile, overlap=0.3)
    assert boxes_of(found) == set(OBJECTS)
    assert len(found["boxes"]) == len(OBJECTS)
    assert found["scores"].tolist() == sorted(found["scores"].tolist(), reverse=True)
    assert len(net.sizes) > 1
    assert all(size == (min(tile, 70), tile) for size in net.sizes)


@pytest.mark.parametrize("tile", [None, 100])
def test_an_image_no_larger_than_a_tile_is_seen_whole(tile):
    net = Blobs().eval()
    assert boxes_of(detect(net, drawn(*OBJECTS), tile=tile)) == set(OBJECTS)
    assert net.sizes == [(70, 100)]


@pytest.mark.parametrize("tile", [None, 40])
def test_masks_lie_where_their_objects_are(tile):
    image = drawn(*OBJECTS)
    found = detect(Blobs(masks=True).eval(), image, tile=tile, overlap=0.3)
    assert found["masks"].dtype == torch.bool
    assert found["masks"].shape == (len(OBJECTS), 70, 100)
    for box, mask in zip(found["boxes"].int().tolist(), found["masks"], strict=True):
        assert torch.equal(mask, drawn(tuple(box))[0].bool())


def test_an_object_too_large_for_any_tile_is_not_lost():
    found = detect(Blobs().eval(), drawn((10, 10, 90, 60)), tile=40)
    assert len(found["boxes"]) > 1


@pytest.mark.parametrize("tile", [None, 40])
@pytest.mark.parametrize("masks", [True, False])
def test_nothing_is_found_where_there_is_nothing(tile, masks):
    found = detect(Blobs(masks=masks).eval(), drawn(), tile=tile)
    assert found["boxes"].shape == (0, 4)
    assert found["scores"].shape == found["labels"].shape == (0,)
    assert not masks or found["masks"].shape == (0, 70, 100)


@pytest.mark.parametrize(
    ("training", "options", "message"),
    [
        (True, {}, "training mode"),
        (False, {"tile": 0}, "tile must be 1 pixel or more; got 0"),
        (False, {"tile": 8, "overlap": 1.0}, "overlap must lie in 0 to below 1; got 1.0"),
    ],
)
def test_what_cannot_work_is_refused(training, options, message):
    with pytest.raises(ValueError, match=message):
        detect(Blobs().train(training), drawn(), **options)
