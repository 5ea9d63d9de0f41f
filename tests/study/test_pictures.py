"""Pictures are written, and what is named in them can be read."""

import math
from itertools import pairwise

import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from crosshead.bench.report import write_table
from crosshead.study.pictures import draw_accuracy, draw_cost, draw_heads, draw_pairs, draw_study
from crosshead.study.report import read_study
from crosshead.study.trial import SHAPE

MANY = [
    "interactive",
    "interactive:mixing=none",
    "interactive-one-factor:factor=query",
    "ivit:attention_stages=(1,2,3)",
    *(f"mechanism-{number}" for number in range(18)),
]


# Without the marks by which a command line takes options.
PLAIN = str.maketrans("=_", "  ")


@pytest.fixture
def two(make_row, results):
    values = {"interactive:mixing=both": (0.85, 0.87, 0.86), "interactive:mixing=none": (0.84, 0.85, 0.86)}
    rows = [
        make_row(accuracy, attention=attention, seed=seed)
        for attention, accuracies in values.items()
        for seed, accuracy in enumerate(accuracies)
    ]
    return results(rows)


@pytest.fixture
def many(make_row, results):
    """Two dozen candidates of nearly one accuracy and cost, one of which diverged."""
    rows = [
        make_row(0.85 + 0.002 * place + 0.003 * seed, attention=attention, seed=seed)
        for place, attention in enumerate(MANY)
        for seed in (0, 1, 2)
    ]
    rows += [
        make_row(accuracy, attention="hydra", seed=seed) for seed, accuracy in enumerate((0.8, math.nan))
    ]
    folder = results(rows)
    prices = [
        {
            "data": row["data"],
            "attention": row["attention"],
            **{name: row[name] for name in SHAPE},
            "multiply_adds": 10**6,
            "infer_ms": 1.0,
            "train_ms": 2.0 + 0.05 * place,
            "train_peak_bytes": "",
        }
        for place, row in enumerate(rows[::3])
    ]
    write_table(folder / "prices.csv", prices, [])
    return folder


@pytest.fixture
def growing(make_row, results):
    rows = [
        make_row(
            0.9 - heads / 1000 - 0.01 * place - 0.001 * seed, attention=attention, heads=heads, seed=seed
        )
        for heads in (2, 4, 8)
        for place, attention in enumerate(("interactive", "softmax", "linformer"))
        for seed in range(2)
    ]
    return results(rows)


def drawn(folder) -> set[str]:
    """The names of the pictures of a study, all of which can be opened."""
    paths = draw_study(folder, read_study(folder))
    for path in paths:
        assert path.parent == folder
        with Image.open(path) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 200
            assert len(picture.convert("RGB").getcolors(10**6) or []) > 20
    return {path.name for path in paths}


def test_two_candidates_are_drawn_seed_by_seed(two):
    assert drawn(two) == {"accuracy.png", "pairs.png"}


def test_many_candidates_are_drawn_against_their_cost(many):
    assert drawn(many) == {"accuracy.png", "price.png"}


def test_accuracy_is_drawn_against_the_number_of_heads(growing):
    assert drawn(growing) == {"accuracy.png", "heads.png"}


def test_the_picture_of_heads_has_a_line_for_each_mechanism_and_says_what_its_bars_are(growing):
    axes = Figure().subplots()
    draw_heads(axes, read_study(growing))
    assert axes.get_ylabel() == "test accuracy, % (± standard error)"
    names, lines = axes.get_legend_handles_labels()[::-1]
    assert names == ["interactive", "linformer", "softmax"]
    places = np.array([line.lines[0].get_xdata() for line in lines], float)  # pyright: ignore
    assert (2 ** np.log2(places).round() == [2, 4, 8]).all()
    assert (np.diff(places, axis=0) > 0).all()  # beside each other
    assert [label.get_text() for label in axes.get_xticklabels()] == ["2", "4", "8"]


def test_one_candidate_is_drawn(make_row, results):
    assert drawn(results([make_row(0.9)])) == {"accuracy.png"}


def test_two_candidates_without_a_shared_seed_are_not_paired(make_row, results):
    rows = [make_row(0.9, seed=0), make_row(0.8, seed=1, attention="softmax")]
    assert drawn(results(rows)) == {"accuracy.png"}


def test_a_study_in_which_all_diverged_is_drawn(make_row, results):
    rows = [make_row(math.nan), make_row(math.nan, attention="softmax")]
    assert "accuracy.png" in drawn(results(rows))


def test_names_beside_costs_never_overlap_and_stay_inside(many, monkeypatch):
    caught: list[Figure] = []
    monkeypatch.setattr("crosshead.study.pictures.save", lambda figure, path: caught.append(figure))
    draw_study(many, read_study(many))
    figure = caught[1]
    (axes,) = figure.axes
    assert axes.get_xscale() == "log"
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    boxes = {text.get_text(): Text.get_window_extent(text, canvas.get_renderer()) for text in axes.texts}
    assert boxes.keys() == {name.translate(PLAIN).replace(":", ", ") for name in MANY}
    ordered = sorted(boxes.values(), key=lambda box: box.y0)
    assert all(below.y1 <= above.y0 for below, above in pairwise(ordered))
    assert min(box.y0 for box in ordered) >= 0
    assert max(box.y1 for box in ordered) <= figure.bbox.height
    assert max(box.x1 for box in ordered) <= figure.bbox.width


def test_the_bars_are_differences_of_the_same_seed(two):
    axes = Figure().subplots()
    draw_pairs(axes, read_study(two))
    heights = [bar.get_height() for bar in axes.patches[:3]]  # pyright: ignore
    assert heights == pytest.approx([1.0, 2.0, 0.0])
    assert "+1.00 %" in axes.get_title()
    # Student's t of two degrees of freedom, 4.3027, times an error of 1 / sqrt(3).
    assert "-1.48 to +3.48" in axes.get_title()


def test_a_study_of_one_seed_says_so_and_shows_no_interval(make_row, results):
    report = read_study(results([make_row(0.85), make_row(0.84, attention="softmax")]))
    drawings = {draw: Figure().subplots() for draw in (draw_pairs, draw_accuracy, draw_cost)}
    for draw, axes in drawings.items():
        draw(axes, report)
    pairs, accuracy, cost = drawings.values()
    assert pairs.get_title().splitlines()[1] == "-1.00 %, no interval: one seed"
    assert len(pairs.patches) == 1  # the bar, and no band around the mean
    assert accuracy.get_xlabel() == "test accuracy, % (one seed)"
    assert cost.get_ylabel() == "test accuracy, % (one seed)"


def test_a_pair_with_a_diverged_training_says_so(make_row, results):
    rows = [make_row(0.8, seed=seed) for seed in (0, 1)]
    rows += [make_row(value, seed=seed, attention="softmax") for seed, value in enumerate((0.7, math.nan))]
    axes = Figure().subplots()
    draw_pairs(axes, read_study(results(rows)))
    assert axes.get_title().splitlines()[1] == "nan %, no interval: a training diverged"


def test_without_costs_nothing_is_placed(two):
    axes = Figure().subplots()
    draw_cost(axes, read_study(two))
    assert not axes.texts


def test_a_picture_says_what_was_trained_and_names_mechanisms_plainly(growing, tmp_path, monkeypatch):
    figures = []
    monkeypatch.setattr("crosshead.study.pictures.save", lambda figure, path: figures.append(figure))
    draw_study(growing, read_study(growing))
    (accuracy, heads) = (figure.axes[0] for figure in figures)
    assert accuracy.get_title() == heads.get_title() == "digits, 640 training samples, 2 seeds"
    named = [label.get_text() for label in accuracy.get_yticklabels()]
    assert not [name for name in named if set(name) & set(":=_")]
