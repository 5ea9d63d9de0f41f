import pytest
from matplotlib.figure import Figure
from PIL import Image

from crosshead.runs import curves
from crosshead.runs.curves import draw_curves
from crosshead.runs.folder import RunFolder


@pytest.fixture
def drawn(monkeypatch) -> list[Figure]:
    """The figures that are drawn."""
    figures: list[Figure] = []

    def keep(*arguments, **options):
        figures.append(Figure(*arguments, **options))
        return figures[-1]

    monkeypatch.setattr(curves, "Figure", keep)
    return figures


def rows(*epochs: dict[str, str]) -> list[dict[str, str]]:
    return [
        {"epoch": str(number), "step": str(2 * number), "learning_rate": "0.001", **epoch, "seconds": "1"}
        for number, epoch in enumerate(epochs, 1)
    ]


def test_losses_scores_and_rate_are_drawn_over_the_epochs_that_have_them(tmp_path, drawn):
    run = RunFolder(tmp_path)
    blank = {"val_loss": "", "val_mean_iou": ""}
    draw_curves(
        run,
        rows(
            {"train_loss": "3", "train_pixel_accuracy": "0.1", **blank},
            {"train_loss": "2", "train_pixel_accuracy": "0.2", "val_loss": "1", "val_mean_iou": "0.5"},
            {"train_loss": "1", "train_pixel_accuracy": "0.3", **blank},
            {"train_loss": "1", "train_pixel_accuracy": "0.4", "val_loss": "2", "val_mean_iou": "0.25"},
        ),
    )
    loss, score, rate = drawn[0].axes
    lines = {line.get_label(): line.get_xydata().tolist() for line in loss.lines}
    assert lines == {"training": [[1, 3], [2, 2], [3, 1], [4, 1]], "validation": [[2, 1], [4, 2]]}
    lines = {line.get_label(): line.get_xydata().tolist() for line in score.lines}
    assert lines["validation mean IoU"] == [[2, 0.5], [4, 0.25]]
    assert lines["training pixel accuracy"] == [[1, 0.1], [2, 0.2], [3, 0.3], [4, 0.4]]
    assert score.get_title() == "Mean IoU (validation: last 25.00%, best 50.00%)"
    assert len(rate.lines[0].get_xydata()) == 4
    with Image.open(run.curves) as picture:
        assert picture.format == "PNG"


@pytest.mark.parametrize("epochs", [1, 2, 3, 40])
def test_epochs_are_whole_numbers_also_where_only_one_has_a_score(tmp_path, drawn, epochs):
    blank = {"train_loss": "3", "val_mean_iou": ""}
    draw_curves(RunFolder(tmp_path), rows(*[blank] * (epochs - 1), blank | {"val_mean_iou": "0.5"}))
    for axes in drawn[0].axes:
        low, high = axes.get_xlim()
        shown = [tick for tick in axes.get_xticks() if low <= tick <= high]
        assert shown
        assert all(tick == round(tick) and 1 <= tick <= epochs for tick in shown)


def test_a_run_that_was_not_tested_yet_has_curves_too(tmp_path, drawn):
    draw_curves(RunFolder(tmp_path), rows({"train_loss": "3", "val_box_ap50": "", "val_box_ap": ""}))
    _, score, _ = drawn[0].axes
    assert score.get_title() == "Box AP"
    assert (tmp_path / "curves.png").exists()


def test_a_score_that_is_alone_is_named_in_the_title_only(tmp_path, drawn):
    draw_curves(RunFolder(tmp_path), rows({"train_loss": "3", "train_accuracy": "0.5", "val_accuracy": "1"}))
    _, score, _ = drawn[0].axes
    assert [line.get_label() for line in score.lines] == ["training", "validation"]
    assert score.get_legend() is None


def test_a_score_that_is_no_number_is_drawn_as_nothing(tmp_path):
    draw_curves(RunFolder(tmp_path), rows(*[{"train_loss": "3", "val_box_ap": "nan"}] * 2))
    assert (tmp_path / "curves.png").exists()


def test_without_epochs_nothing_is_drawn(tmp_path):
    draw_curves(RunFolder(tmp_path), [])
    assert list(tmp_path.iterdir()) == []
