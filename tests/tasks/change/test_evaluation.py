"""The metrics of change, and the words for them."""

import pytest
import torch

from crosshead.tasks.change.evaluation import ChangeEvaluation, change_metrics

TWO, THREE = ("unchanged", "changed"), ("same", "grown", "shrunk")


def test_what_counts_do_not_define_is_said_so():
    nowhere = change_metrics(torch.tensor([[5, 0], [0, 0]]), torch.ones(2), TWO)
    assert (nowhere.accuracy, nowhere.kappa, nowhere.f1, nowhere.auc) == (1, None, 0, None)
    absent = change_metrics(
        torch.tensor([[2, 1, 0], [1, 2, 0], [0, 0, 0]]), torch.tensor([0.7, 0.9, 0]), THREE
    )
    assert absent.f1 == pytest.approx(2 / 3)
    assert absent.auc == pytest.approx(0.8)
    assert absent.per_class_f1["shrunk"] == 0


def test_an_evaluation_says_its_metrics_and_what_is_not_defined():
    found = change_metrics(torch.tensor([[6, 2], [1, 1]]), torch.tensor([0.5, 0.75]), TWO)
    evaluation = ChangeEvaluation(images=3, weights="last", **vars(found))
    assert dict(evaluation.metrics()) == {
        "overall accuracy": "70.00%",
        "Cohen's kappa": "21.05%",
        "F1": "40.00%",
        "area under the ROC curve": "75.00%",
        "labelled pixels": "10",
    }
    assert evaluation.counted == "image pairs"
    what, by_class = evaluation.by_class()
    assert (what, by_class["changed"]) == ("F1", pytest.approx(0.4))
    nothing = change_metrics(torch.tensor([[5, 0], [0, 0]]), torch.ones(2), TWO)
    shown = dict(ChangeEvaluation(images=1, weights="best", **vars(nothing)).metrics())
    assert (shown["Cohen's kappa"], shown["area under the ROC curve"]) == ("-", "-")
