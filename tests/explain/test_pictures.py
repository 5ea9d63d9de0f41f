"""Pictures show what the numbers say: the right patch, the right sign, one scale around 0."""

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from crosshead import InteractiveAttention
from crosshead.explain import map_rows, on_grid, pictures, record
from crosshead.explain.call import LayerCall

GREY = Image.new("RGB", (60, 40), (128, 128, 128))


@pytest.fixture
def shown(monkeypatch) -> list[Any]:
    """The figures that are drawn."""
    figures: list[Any] = []
    rendered = pictures.rendered

    def keep(figure: Any) -> Image.Image:
        figures.append(figure)
        return rendered(figure)

    monkeypatch.setattr(pictures, "rendered", keep)
    return figures


@pytest.fixture
def call() -> LayerCall:
    torch.manual_seed(0)
    layer = InteractiveAttention(32, 4, landmarks=(2, 3), num_prefix_tokens=1).eval()
    for mixer in (layer.query_mixing, layer.key_mixing):
        for matrix in mixer.parameters():
            torch.nn.init.normal_(matrix)
    with torch.no_grad(), record(layer) as recording:
        layer(torch.randn(2, 1 + 4 * 6, 32), grid=(4, 6))
    return recording[0]


def test_a_map_has_a_panel_for_each_head_and_the_token_in_a_frame(call, shown):
    picture = pictures.draw_maps(call, GREY, (3, 1), sample=1)
    assert picture.mode == "RGB"
    (figure,) = shown
    assert len(figure.axes) == 4
    rows = on_grid(map_rows(call, (3, 1)), (4, 6))[1, :, 0]
    for head, (axes, row) in enumerate(zip(figure.axes, rows, strict=True)):
        colours = axes.images[1]
        np.testing.assert_allclose(colours.get_array(), row.numpy(), rtol=1e-6)
        low, high = colours.get_clim()
        assert high == -low == pytest.approx(float(row.abs().max()))
        assert axes.get_title().startswith(f"head {head}: {high * 25:.1f} x even\nprefix ")
        (frame,) = axes.patches
        assert frame.get_bbox().bounds == (10, 30, 10, 10)  # of 6 columns over 60 pixels and 4 rows over 40
    assert "where token (3, 1) looks" in figure.get_suptitle()


def test_taken_is_red_subtracted_is_blue_and_nothing_is_grey(shown, call, monkeypatch):
    values = torch.zeros(1, 1, 1, 25)
    values[..., 1], values[..., 2] = 0.5, -0.5
    monkeypatch.setattr(pictures, "map_rows", lambda *_, **__: values)
    picture = pictures.draw_maps(call, GREY, 0, heads=0)
    pixels = np.asarray(picture).astype(int)
    # The left half of the upper row of patches, below the title.
    box = shown[0].axes[0].get_window_extent()
    top, left = round(picture.height - box.y1), round(box.x0)
    step = round(box.width / 6)
    (red, blue, grey) = (pixels[top + step // 2, left + step // 2 + n * step] for n in range(3))
    assert red[0] > red[2] + 60
    assert blue[2] > blue[0] + 60
    assert np.ptp(grey) == 0
    assert not shown[0].axes[0].patches  # a prefix token stands on no patch


def test_landmarks_lie_as_on_the_grid(call, shown):
    pictures.draw_landmarks(call, GREY, head=2)
    drawn = [axes for axes in shown[0].axes if axes.images]
    assert [axes.get_title().partition(":")[0] for axes in drawn] == [f"landmark {n}" for n in range(7)]
    rows = {round(axes.get_position().y0, 3) for axes in drawn[1:]}
    assert len(rows) == 2
    # The last cell: rows 2 to 4 of 4, columns 4 to 6 of 6.
    assert drawn[-1].patches[0].get_bbox().bounds == (40, 20, 20, 20)
    assert not drawn[0].patches


def test_mixing_has_one_scale_around_zero(call, shown):
    pictures.draw_mixing(call)
    maps = [axes for axes in shown[0].axes if axes.get_title()]
    assert [axes.get_title() for axes in maps] == [
        "query logits",
        "query weights",
        "key logits",
        "key weights",
    ]
    most = max(float(matrix.abs().max()) for matrix in (*call.query_mixing, *call.key_mixing))
    for axes, matrix in zip(maps, (*call.query_mixing, *call.key_mixing), strict=True):
        np.testing.assert_allclose(axes.images[0].get_array(), matrix.numpy())
        assert axes.images[0].get_clim() == pytest.approx((-most, most))


def test_what_cannot_be_drawn_is_told():
    layer = InteractiveAttention(8, 2, landmarks=(3,), mixing="none").eval()
    with torch.no_grad(), record(layer) as recording:
        layer(torch.randn(1, 9, 8))
    with pytest.raises(ValueError, match=r"must have a grid of two axes to be drawn; got \(9,\)"):
        pictures.draw_maps(recording[0], GREY, 0)
    with pytest.raises(ValueError, match="must mix heads to be drawn; it has mixing='none'"):
        pictures.draw_mixing(recording[0])


def test_a_sample_or_head_that_is_not_there(call):
    with pytest.raises(ValueError, match="sample must lie in 0 to 1; got 2"):
        pictures.draw_maps(call, GREY, 0, sample=2)
    with pytest.raises(ValueError, match="head must lie in 0 to 3; got 9: the nearest is 3"):
        pictures.draw_landmarks(call, GREY, head=9)
