"""Pictures are written, and every line has a name that can be read."""

from itertools import pairwise

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.text import Text

from crosshead.bench.attention import AttentionRow
from crosshead.bench.backbone import BackboneRow
from crosshead.bench.options import MODELS, PROVIDERS
from crosshead.bench.plots import colours_of, draw_attention, draw_backbones, draw_curves, spread

CURVES = {f"model {n}": [(256, 1.0), (1024, 2.0 + 0.001 * n)] for n in range(8)}


def test_names_never_overlap_and_stay_inside():
    figure = Figure(figsize=(8, 5.5), layout="constrained")
    axes = figure.subplots()
    draw_curves(axes, CURVES)
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    # The extent of an annotation would hold its leader too.
    boxes = {text.get_text(): Text.get_window_extent(text, canvas.get_renderer()) for text in axes.texts}
    assert boxes.keys() == CURVES.keys()
    ordered = sorted(boxes.values(), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(ordered))
    assert min(box.y0 for box in ordered) >= 0
    assert max(box.y1 for box in ordered) <= figure.bbox.height
    assert max(box.x1 for box in ordered) <= figure.bbox.width


def test_a_panel_without_curves_says_so():
    axes = Figure().subplots()
    draw_curves(axes, {"fused": []})
    assert [text.get_text() for text in axes.texts] == ["nothing measured"]


@pytest.mark.parametrize(
    "places", [[0.0, 0.0, 0.0], [1.0, 1.0], [0.2, 0.21, 0.9], [], [0.5], [k / 20 for k in range(20)]]
)
def test_places_keep_their_order_and_their_distance(places):
    found = spread(places, gap=0.05)
    assert len(found) == len(places)
    assert all(b - a >= 0.05 - 1e-9 for a, b in pairwise(found))
    assert all(place <= 1 for place in found)


@pytest.mark.parametrize(
    ("places", "moved"), [([0, 0, 0], [0, 0.25, 0.5]), ([0.5, 1, 1], [0.5, 0.75, 1]), ([0, 0.5], [0, 0.5])]
)
def test_places_move_up_first_and_down_from_the_end(places, moved):
    assert spread(places, gap=0.25) == moved


def is_picture(path) -> bool:
    return path.read_bytes().startswith(b"\x89PNG") and path.stat().st_size > 5000


@pytest.mark.parametrize("quantity", ["median_s", "beyond_bytes"])
def test_attention_is_drawn(tmp_path, quantity):
    row = {
        "package": "",
        "mixes_heads": True,
        "linear": True,
        "status": "",
        "checked": "",
        "repeats": 1,
        "calls": 1,
    }
    rows = [
        AttentionRow(
            provider=name, level=level, passes=passes, tokens=n, median_s=n / 1e6, beyond_bytes=n * 100, **row
        )
        for passes in ("forward", "forward+backward")
        for name, level in (("fused", "operator"), ("exact", "operator"), ("xca-layer", "layer"))
        for n in (256, 1024)
    ]
    draw_attention(tmp_path / "one.png", rows, quantity=quantity, title="title")
    draw_attention(tmp_path / "two.png", rows[:2], quantity=quantity, title="title")
    assert is_picture(tmp_path / "one.png")
    assert is_picture(tmp_path / "two.png")


def test_backbones_are_drawn_whether_or_not_they_were_measured(tmp_path):
    row = {"passes": "train", "batch": 1, "status": "", "checked": "", "repeats": 1, "calls": 1}
    rows = [
        BackboneRow(model=name, size=size, images_per_second=100 / size if name == "a" else None, **row)
        for name in "ab"
        for size in (224, 512)
    ]
    draw_backbones(tmp_path / "speed.png", rows, title="title")
    assert is_picture(tmp_path / "speed.png")


def test_a_name_has_the_same_colour_whatever_it_is_drawn_with():
    for level in ("operator", "layer"):
        names = [provider.name for provider in PROVIDERS if provider.level == level]
        together = colours_of(names)
        assert len(set(together.values())) == len(names)
        assert all(colours_of([name, "my own"])[name] == color for name, color in together.items())
    assert len(set(colours_of([*MODELS, "a", "b", "c"]).values())) == len(MODELS) + 3


def test_a_single_size_is_drawn_as_bars():
    axes = Figure().subplots()
    draw_curves(axes, {"fused": [(256, 2.0)], "exact": [(256, 8.0)]})
    assert not axes.lines
    assert [bar.get_height() for bar in axes.containers[0]] == [2.0, 8.0]  # pyright: ignore
    assert [label.get_text() for label in axes.get_xticklabels()] == ["fused", "exact"]
    assert axes.get_ylim()[0] == 0


def test_leaders_have_no_colour_of_data():
    axes = Figure(layout="constrained").subplots()
    draw_curves(axes, CURVES)
    leaders = {to_hex(text.arrow_patch.get_edgecolor()) for text in axes.texts}  # pyright: ignore
    assert leaders == {"#bbbbbb"}
