import pytest
import torch
from PIL import Image

from crosshead.tasks.classify.transforms import eval_transform, train_transform

GREY = ((0.25,), (0.5,))
COLOUR = ((0.2, 0.4, 0.6), (0.1, 0.2, 0.3))


def ramp(size: tuple[int, int]) -> Image.Image:
    """Black at the left, white at the right."""
    return Image.linear_gradient("L").rotate(90).resize(size)


def test_evaluation_resizes_crops_and_normalises():
    image = Image.new("RGB", (40, 20), (51, 102, 255))
    tensor = eval_transform(image_size=10, crop_fraction=0.5, mean=COLOUR[0], std=COLOUR[1])(image)
    assert tensor.shape == (3, 10, 10)
    torch.testing.assert_close(tensor[:, 4, 4], torch.tensor([0.0, 0.0, 4 / 3]))


def test_the_share_of_the_crop_decides_how_much_of_the_border_is_lost():
    image = Image.new("L", (40, 40))
    image.paste(255, (10, 10, 30, 30))
    whole = eval_transform(image_size=20, crop_fraction=1.0, mean=(0.0,), std=(1.0,))(image)
    half = eval_transform(image_size=20, crop_fraction=0.5, mean=(0.0,), std=(1.0,))(image)
    assert whole.mean() == pytest.approx(0.25, abs=0.03)
    assert half.min() > 0.9


@pytest.mark.parametrize("crop", ["resized", "padded", "center"])
@pytest.mark.parametrize(("mode", "statistics"), [("L", GREY), ("RGB", COLOUR)])
def test_every_step_together_gives_a_finite_tensor_of_the_size_asked_for(crop, mode, statistics):
    transform = train_transform(
        image_size=12,
        crop=crop,
        rotation=15,
        color_jitter=0.4,
        # Far beyond the magnitude at which timm's posterize asks Pillow for an image of no bits.
        rand_augment="rand-m10-n6-inc1",
        erasing=1.0,
        mean=statistics[0],
        std=statistics[1],
    )
    for _ in range(30):
        tensor = transform(Image.new(mode, (31, 17)))
        assert tensor.shape == (len(statistics[0]), 12, 12)
        assert tensor.isfinite().all()


def test_a_certain_flip_mirrors():
    plain, flipped = (
        train_transform(image_size=8, crop="center", flip=flip, mean=(0.25,), std=(0.5,))(ramp((8, 8)))
        for flip in (0.0, 1.0)
    )
    assert torch.equal(plain.flip(-1), flipped)
    assert not torch.equal(plain, flipped)


def test_padding_moves_the_image_by_no_more_than_it_says():
    image = Image.new("L", (9, 9))
    image.putpixel((4, 4), 255)
    transform = train_transform(image_size=9, crop="padded", crop_padding=2, flip=0, mean=(0.0,), std=(1.0,))
    places = {tuple(transform(image)[0].nonzero()[0].tolist()) for _ in range(300)}
    assert places == {(row, column) for row in range(2, 7) for column in range(2, 7)}
