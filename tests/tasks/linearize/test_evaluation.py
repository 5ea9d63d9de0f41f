"""What an evaluation says of a linearized ViT."""

from crosshead.tasks.linearize.evaluation import LinearizeEvaluation


def test_a_memory_too_small_to_be_told_is_given_a_bound():
    megabytes = {"teacher": 1234.56, "swapped": 0.02, "linearized": 0.0}
    cost = {net: {"milliseconds": 2.0, "megabytes": value} for net, value in megabytes.items()}
    found = LinearizeEvaluation(images=1, weights="last", agreement={}, labels={}, cost={"224": cost})
    assert found.metrics()[-1] == ("megabytes at 224 px", "1,234.6", "under 1", "under 1")
