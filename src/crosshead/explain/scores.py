"""What the scores of a net are owed to, by name: of classes, of objects, of regions.

Legend: `B` batch, `K` classes, `N` tokens.
"""

from collections.abc import Callable, Iterator
from importlib.util import find_spec
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from crosshead.explain.look import Look
from crosshead.explain.record import record
from crosshead.explain.relevance import relevance
from crosshead.runs.trained import TrainedModel

# How many scores are asked about by default.
MOST = 3
# Of integrated gradients: points on the way to the image, and how many go through the net at once.
POINTS, AT_ONCE = 32, 8


class Score(NamedTuple):
    """A score that a net gives to an image.

    Attributes:
        name: of the class, the object or the region.
        of: takes it out of what the net gives: a number for each image, `(B,)`.
    """

    name: str
    of: Callable[[Any], Tensor]


def relevance_of_scores(model: TrainedModel, seen: Look, *, most: int = MOST) -> dict[str, Tensor]:
    """To which tokens the leading scores of a prediction are owed, as far as attention tells.

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
        >>> model = crosshead.load("ivit_pico.fashion_mnist")  # doctest: +SKIP
        >>> [*relevance_of_scores(model, look(model, "boot.png"))]  # doctest: +SKIP
        ['Ankle boot', 'Sandal', 'Sneaker']
    """
    module, arguments = seen.asked
    if module is not model.net:
        return {}
    with torch.enable_grad(), record(model.net, seen.recording.names, gradients=True) as recording:
        output = module(*map(_outside_inference, arguments))
    scores = leading_scores(output, model.classes, most=most)
    return {score.name: relevance(recording, score.of(output).sum()) for score in scores}


def gradients_of_scores(model: TrainedModel, seen: Look, *, most: int = MOST) -> dict[str, Tensor]:
    """To which parts of the image the leading scores are owed, whatever the path: integrated gradients.

    captum's, from the mean image to the image, summed over channels and averaged over the cell of each token
    of the first layer.

    Args:
        model: that made the prediction.
        seen: what `look` gave.
        most: how many scores.

    Returns:
        `(B, N)` by the name of the score, without prefix tokens; signed. Empty where captum is not installed,
        of detectors, of change between two dates, and where the net gives no scores.

    Source: M. Sundararajan, A. Taly, Q. Yan, arXiv 1703.01365.

    Example:
        >>> import crosshead  # doctest: +SKIP
        >>> model = crosshead.load("ivit_pico.fashion_mnist")  # doctest: +SKIP
        >>> gradients_of_scores(model, look(model, "boot.png"))["Ankle boot"].shape  # doctest: +SKIP
        torch.Size([1, 49])
    """
    module, arguments = seen.asked
    one_image = len(arguments) == 1 and isinstance(arguments[0], Tensor)
    if module is not model.net or not one_image or find_spec("captum") is None:
        return {}
    from captum.attr import IntegratedGradients

    image = _outside_inference(arguments[0])
    with torch.no_grad():
        scores = leading_scores(module(image), model.classes, most=most)
    found = {}
    rows, columns = seen.recording.calls[0].grid
    for score in scores:
        method = IntegratedGradients(lambda images, score=score: score.of(module(images)))
        owed = method.attribute(image, n_steps=POINTS, internal_batch_size=AT_ONCE)
        found[score.name] = F.adaptive_avg_pool2d(owed.sum(1).float(), (rows, columns)).flatten(1)
    return found


def leading_scores(output: Any, classes: tuple[str, ...], *, most: int = MOST) -> list[Score]:
    """The leading scores in what a net gives of one image, best first.

    Args:
        output: `(1, K)` of a classifier, `(1, K, height, width)` of a map of classes, or torchvision's list
            of objects.
        classes: their names.
        most: how many scores.

    Example:
        >>> output = torch.tensor([[0.1, 0.7, 0.2]])
        >>> [(name, of(output)) for name, of in leading_scores(output, ("cat", "dog", "cow"), most=2)]
        [('dog', tensor([0.7000])), ('cow', tensor([0.2000]))]
    """
    return list(_leading(output, classes, most))


def _leading(output: Any, classes: tuple[str, ...], most: int) -> Iterator[Score]:
    if isinstance(output, list):
        # Labels of objects count from 1.
        for place, label in enumerate(output[0]["labels"][:most].tolist()):
            name = f"object {place + 1}: {classes[label - 1]}"
            yield Score(name, lambda objects, place=place: objects[0]["scores"][place : place + 1])
    elif output.ndim == 2:
        for label in output[0].topk(min(most, output.shape[1])).indices.tolist():
            yield Score(classes[label], lambda logits, label=label: logits[:, label])
    else:
        labels = output[0].argmax(0)
        areas = labels.flatten().bincount(minlength=output.shape[1])
        for label in areas.argsort(descending=True, stable=True)[:most].tolist():
            if areas[label]:
                region = labels == label
                yield Score(
                    classes[label],
                    lambda maps, label=label, region=region: maps[:, label][:, region].mean(-1),
                )


def _outside_inference(argument: Any) -> Any:
    """A copy that autograd may use."""
    if isinstance(argument, Tensor):
        return argument.clone()
    return (
        type(argument)(map(_outside_inference, argument)) if isinstance(argument, list | tuple) else argument
    )
