"""What the scores of a net are owed to, by name: of classes, of objects, of regions.

Legend: `B` batch, `K` classes, `N` tokens.
"""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from crosshead.explain.look import Look
from crosshead.explain.record import record
from crosshead.explain.relevance import relevance
from crosshead.runs.trained import TrainedModel

# How many scores are asked about by default.
MOST = 3


def relevance_of_scores(model: TrainedModel, seen: Look, *, most: int = MOST) -> dict[str, Tensor]:
    """To which tokens the leading scores of a prediction are owed.

    The net is called once more, with gradients: `relevance` of each score.

    Args:
        model: that made the prediction.
        seen: what `look` gave; of the same layers.
        most: how many scores.

    Returns:
        `(B, N)` by the name of the score, best first: the most probable classes of a classifier, the objects
        that a detector is surest of, and the largest classes of a map, as the mean score over their pixels.
        Empty where the net gives tokens and no scores.

    Raises:
        ValueError: if the weights have changed; if layers do not follow one another, as in `relevance`.

    Example:
        >>> import crosshead  # doctest: +SKIP
        >>> model = crosshead.load("runs/digits-1")  # doctest: +SKIP
        >>> [*relevance_of_scores(model, look(model, "digit.png"))]  # doctest: +SKIP
        ['7', '2', '3']
    """
    module, arguments = seen.asked
    if module is not model.net:
        return {}
    with torch.enable_grad(), record(model.net, seen.recording.names, gradients=True) as recording:
        output = module(*map(_outside_inference, arguments))
    found = named_scores(output, model.classes, most=most)
    return {name: relevance(recording, score) for name, score in found}


def named_scores(output: Any, classes: tuple[str, ...], *, most: int = MOST) -> Iterator[tuple[str, Tensor]]:
    """The leading scores in what a net gives of one image, best first.

    Args:
        output: `(1, K)` of a classifier, `(1, K, height, width)` of a map of classes, or torchvision's list
            of objects.
        classes: their names.
        most: how many scores.

    Example:
        >>> [name for name, _ in named_scores(torch.tensor([[0.1, 0.7, 0.2]]), ("cat", "dog", "cow"), most=2)]
        ['dog', 'cow']
    """
    if isinstance(output, list):
        (objects,) = output
        # Labels of objects count from 1.
        named = zip(objects["labels"].tolist(), objects["scores"], strict=True)
        for number, (label, score) in enumerate(list(named)[:most], 1):
            yield f"object {number}: {classes[label - 1]}", score
    elif output.ndim == 2:
        for label in output[0].topk(min(most, output.shape[1])).indices.tolist():
            yield classes[label], output[0, label]
    else:
        labels = output[0].argmax(0)
        areas = labels.flatten().bincount(minlength=output.shape[1])
        for label in areas.argsort(descending=True, stable=True)[:most].tolist():
            if areas[label]:
                yield classes[label], output[0, label][labels == label].mean()


def _outside_inference(argument: Any) -> Any:
    """A copy that autograd may use."""
    if isinstance(argument, Tensor):
        return argument.clone()
    return (
        type(argument)(map(_outside_inference, argument)) if isinstance(argument, list | tuple) else argument
    )
