import numpy as np
import pytest
from PIL import Image

from crosshead.tasks.detect.pictures import draw_objects
from crosshead.tasks.pictures import palette

GREY = Image.new("L", (400, 400), 40)
RED, BLUE = (238, 102, 119), (68, 119, 170)


def objects(*rows: tuple[float, float, float, float, int]) -> dict:
    """Boxes and labels of rows (left, top, right, bottom, label)."""
    array = np.array(rows, np.float32).reshape(-1, 5)
    return {"boxes": array[:, :4], "labels": array[:, 4].astype(np.int64)}


def crowd(count: int, *, side: float = 60) -> dict:
    places = [(18 * (number % 20), 18 * (number // 20)) for number in range(count)]
    return objects(*((x, y, x + side, y + side, 1) for x, y in places))


def differing(picture: Image.Image, image: Image.Image = GREY) -> np.ndarray:
    """True where a picture is not the image, (height, width)."""
    return (np.asarray(picture) != np.asarray(image.convert("RGB"))).any(-1)


def test_a_box_has_the_colour_of_its_class_and_exclusive_edges():
    picture = draw_objects(GREY, **objects((100, 200, 180, 240, 2)), classes=["", ""])
    drawn = differing(picture)
    rows, columns = drawn.nonzero()
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (200, 239, 100, 179)
    assert set(map(tuple, np.asarray(picture)[drawn])) == {RED}
    assert not drawn[205:235, 105:175].any()


def test_boxes_follow_an_image_that_is_enlarged():
    picture = draw_objects(Image.new("L", (100, 100), 40), **objects((25, 50, 45, 60, 1)), classes=["", ""])
    assert np.array_equal(
        differing(picture),
        differing(draw_objects(GREY, **objects((100, 200, 180, 240, 1)), classes=["", ""])),
    )


def test_masks_follow_an_image_that_is_enlarged():
    mask = np.zeros((1, 100, 100), bool)
    mask[0, 50:60, 25:45] = True
    small = Image.new("L", (100, 100), 40)
    picture = draw_objects(small, **objects((25, 50, 45, 60, 1)), classes=["a"], masks=mask)
    expected = mask[0].repeat(4, axis=0).repeat(4, axis=1)
    # Corners are rounded.
    assert (differing(picture) != expected).sum() <= 4 * 3


def test_a_mask_is_filled_lightly_and_outlined_in_full():
    masks = np.zeros((1, 400, 400), bool)
    masks[0, 100:160, 0:50] = True
    picture = draw_objects(
        GREY, **objects((0, 100, 50, 160, 2)), classes=["a", "b"], masks=masks, opacity=0.5
    )
    pixels = np.asarray(picture)
    assert np.array_equal(differing(picture)[118:], masks[0][118:])
    assert tuple(pixels[159, 20]) == tuple(pixels[130, 49]) == tuple(pixels[130, 0]) == RED
    assert pixels[130, 20].tolist() == pytest.approx([(40 + part) / 2 for part in RED], abs=1)


@pytest.mark.parametrize(("classes", "colors"), [(["cell"], 3), (["cell", "debris"], 1)])
def test_masks_of_a_single_class_are_told_apart(classes, colors):
    masks = np.zeros((3, 400, 400), bool)
    for number in range(3):
        masks[number, 100:180, 120 * number : 120 * number + 100] = True
    found = objects(*((120 * number, 100, 120 * number + 100, 180, 1) for number in range(3)))
    pixels = np.asarray(draw_objects(GREY, **found, classes=classes, masks=masks))
    edges = [tuple(pixels[179, 120 * number + 50]) for number in range(3)]
    assert edges == palette(3) if colors == 3 else edges == [BLUE] * 3


def test_a_small_object_is_drawn_over_a_large_one():
    found = objects((150, 150, 250, 250, 2), (100, 100, 300, 300, 1))
    masks = np.zeros((2, 400, 400), bool)
    masks[0, 150:250, 150:250] = masks[1, 100:300, 100:300] = True
    pixels = np.asarray(draw_objects(GREY, **found, classes=["", ""], masks=masks, opacity=1.0))
    assert (tuple(pixels[200, 200]), tuple(pixels[120, 200])) == (RED, BLUE)


def test_names_and_scores_are_written_inside_large_boxes():
    found = objects((50, 50, 350, 350, 1))
    silent = draw_objects(GREY, **found, classes=["", ""])
    named = draw_objects(GREY, **found, classes=["cat", "dog"])
    scored = draw_objects(GREY, **found, classes=["cat", "dog"], scores=np.array([0.9]))
    places = [np.argwhere(differing(picture, silent)) for picture in (named, scored)]
    assert 0 < len(places[0]) < len(places[1])
    assert all(place.min() >= 50 and place[:, 0].max() < 75 for place in places)


def test_the_name_of_a_single_class_is_not_written():
    found = objects((50, 50, 350, 350, 1))
    assert not differing(
        draw_objects(GREY, **found, classes=["cell"]), draw_objects(GREY, **found, classes=[""])
    ).any()


def test_a_name_finds_room_above_a_small_box_and_stays_in_the_picture():
    found = objects((390, 300, 399, 306, 1), (200, 1, 206, 7, 1))
    named, silent = (draw_objects(GREY, **found, classes=[name, ""]) for name in ("lymphocyte", ""))
    rows, columns = differing(named, silent).nonzero()
    assert {*rows[columns > 300]} <= set(range(280, 306))
    assert columns.max() == 399
    assert columns[columns > 300].min() < 345
    assert rows.min() == 0


def test_text_is_larger_on_large_images():
    heights = []
    for side in (400, 2000):
        image, found = Image.new("L", (side, side), 40), objects((0, 0, side, side, 1))
        named, silent = (draw_objects(image, **found, classes=[name, ""]) for name in ("cat", ""))
        heights.append(np.ptp(differing(named, silent).nonzero()[0]))
    assert heights[1] > 3 * heights[0]


@pytest.mark.parametrize(("label", "text"), [(1, 255), (4, 0)])
def test_text_is_dark_on_light_colours(label, text):
    picture = draw_objects(GREY, **objects((50, 50, 350, 350, label)), classes=["blue", "", "", "yellow"])
    assert (np.asarray(picture)[50:75, 50:150] == text).all(-1).any()
    assert not (np.asarray(picture)[50:75, 50:150] == 255 - text).all(-1).any()


@pytest.mark.parametrize(
    ("found", "written"), [(crowd(12, side=60), True), (crowd(12, side=9), False), (crowd(60), False)]
)
def test_a_crowd_is_not_hidden_by_names(found, written):
    named, silent = (draw_objects(GREY, **found, classes=[name, ""]) for name in ("cell", ""))
    assert differing(named, silent).any() == written


@pytest.mark.parametrize("name", ["x" * 500, "two\nlines", "Zelle ä 细胞 🦠", "_$\\frac{", ""])
@pytest.mark.parametrize("size", [(30, 20), (3, 700), (700, 3), (1, 1)])
def test_no_name_and_no_size_is_too_odd(name, size):
    width, height = size
    found = objects((0, 0, width, height, 1), (0, 0, 0, 0, 2))
    masks = np.ones((2, height, width), bool)
    masks[1] = False
    image = Image.new("RGB", size)
    for given in (None, masks):
        picture = draw_objects(image, **found, classes=[name, "b"], scores=np.array([1.0, 0.5]), masks=given)
        assert picture.mode == "RGB"
        assert picture.width * height == picture.height * width


def test_an_image_without_objects_stays_as_it_is():
    masks = np.zeros((0, 400, 400), bool)
    for given in (None, masks):
        assert not differing(
            draw_objects(GREY, **objects(), classes=["a"], scores=np.ones(0), masks=given)
        ).any()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"boxes": np.zeros((2, 4))},
            r"boxes must have the shape \(1, 4\), as there are 1 labels; got \(2, 4\)",
        ),
        ({"scores": np.ones(2)}, "scores must have 1 entries, one for each label; got 2"),
        (
            {"masks": np.ones((1, 40, 400))},
            r"masks must be 400 x 400 pixels like the image; got \(1, 40, 400\)",
        ),
        ({"labels": np.array([0])}, r"labels must be 1\.\.1; got 0\.\.0"),
        ({"labels": np.array([2])}, r"labels must be 1\.\.1; got 2\.\.2"),
    ],
)
def test_objects_that_do_not_fit_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        draw_objects(GREY, **{**objects((1, 1, 9, 9, 1)), "classes": ["a"], **change})
