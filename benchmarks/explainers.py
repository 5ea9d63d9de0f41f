"""The maps that `faithfulness.py` and `pointing.py` compare: ours, captum's, and controls that ask no net.

Each gives `(B, rows, columns)` on the grid of the first layer of attention, of the sum of a score over a
batch. Maps of pixels are summed over channels and averaged over the pixels of a patch; coarser maps of
captum's are interpolated, ours handed down as in `relevance`.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import torch
from captum.attr import (
    FeatureAblation,
    InputXGradient,
    IntegratedGradients,
    KernelShap,
    LayerGradCam,
    Occlusion,
    Saliency,
)
from torch import Tensor, nn
from torch.nn import functional as F

from crosshead.explain import (
    LayerCall,
    Recording,
    layer_relevance,
    map_rows,
    on_grid,
    record,
    relevance,
    rollout,
)
from crosshead.explain.path import spread

SHAP_SAMPLES, AT_A_TIME, BUDGET = 200, 200, 2**31


class Question(NamedTuple):
    """What is to be explained.

    Attributes:
        net: in evaluation mode.
        images: `(B, C, height, width)`, normalised: 0 is the mean.
        score: from what the net gives and `told`, to a number for each image, `(B,)`.
        told: what the score has to know of each image, such as its class, `(B,)`.
    """

    net: nn.Module
    images: Tensor
    score: Callable[..., Tensor]
    told: tuple[Tensor, ...]

    def answer(self) -> Tensor:
        """`(B,)`."""
        return self.score(self.net(self.images), *self.told)


Explainer = Callable[[Question], Tensor]


class AsScore(nn.Module):
    """A net that gives its score, as captum asks for it."""

    def __init__(self, question: Question) -> None:
        super().__init__()
        self.net, self.score = question.net, question.score

    def forward(self, images: Tensor, *told: Tensor) -> Tensor:
        """`(B,)`."""
        return self.score(self.net(images), *told)


def recorded(question: Question) -> Recording:
    """A pass without gradients."""
    with torch.no_grad(), record(question.net, budget=BUDGET) as recording:
        question.answer()
    return recording


def asked(question: Question) -> tuple[Recording, Tensor]:
    """A pass with gradients, and the sum of the scores: images do not know of each other."""
    with record(question.net, gradients=True, budget=BUDGET) as recording:
        score = question.answer().sum()
    return recording, score


def grid_of(question: Question) -> tuple[int, ...]:
    """That of the first layer of attention."""
    return recorded(question._replace(images=question.images[:1], told=(), score=lambda out: out))[0].grid


def by_relevance(question: Question) -> Tensor:
    """Through all layers."""
    recording, score = asked(question)
    return on_grid(relevance(recording, score), recording[0].grid)


def by_last_relevance(question: Question) -> Tensor:
    """Of the last layer alone."""
    recording, score = asked(question)
    owed = layer_relevance(recording, score)[recording[-1].name]
    return handed_down(owed.clamp(min=0).mean(1), recording[-1], recording[0])


def by_rollout(question: Question) -> Tensor:
    """Of what the classifier reads, the class token or all tokens of the last layer; it knows no class."""
    recording = recorded(question)
    token = 0 if recording[-1].num_prefix_tokens else None
    return on_grid(rollout(recording, token), recording[0].grid)


def by_columns(question: Question, *, layer: int) -> Tensor:
    """How much all tokens of a layer take of each, the mean over heads; it knows no class."""
    recording = recorded(question)
    taken = map_rows(recording[layer], None).sum(2).mean(1)
    return handed_down(taken, recording[layer], recording[0])


def handed_down(values: Tensor, coarse: LayerCall, fine: LayerCall) -> Tensor:
    """`(B, N)` of a later layer on the grid of the first one."""
    return on_grid(spread(values, coarse, fine), fine.grid)


def by_captum(question: Question, *, method: Any, grid: Sequence[int], **options: Any) -> Tensor:
    """A map of pixels, by patches."""
    asking = method(AsScore(question))
    found = asking.attribute(question.images, additional_forward_args=question.told, **options)
    return F.adaptive_avg_pool2d(found.detach().sum(1), tuple(grid))


def by_cam(question: Question, *, layer: str, grid: Sequence[int]) -> Tensor:
    """Grad-CAM on what a part of the net gives; negative values keep their order too."""
    method = LayerGradCam(AsScore(question), question.net.get_submodule(layer))
    found: Any = method.attribute(question.images, additional_forward_args=question.told)
    return F.interpolate(found.detach(), size=tuple(grid), mode="bilinear")[:, 0]


def at_random(question: Question, *, seed: int, grid: Sequence[int]) -> Tensor:
    """An order that is drawn."""
    return torch.rand(len(question.images), *grid, generator=torch.Generator().manual_seed(seed))


def by_contrast(question: Question, *, grid: Sequence[int]) -> Tensor:
    """How far pixels are from the mean, which the net is not asked for."""
    return F.adaptive_avg_pool2d(question.images.abs().mean(1), tuple(grid))


def by_centre(question: Question, *, grid: Sequence[int]) -> Tensor:
    """The nearer to the middle, the more."""
    places = torch.cartesian_prod(*(torch.linspace(-1, 1, count) for count in grid))
    return -places.square().sum(-1).view(1, *grid).expand(len(question.images), *grid)


OURS: dict[str, Explainer] = {
    "relevance": by_relevance,
    "relevance, last layer": by_last_relevance,
    "rollout": by_rollout,
    "columns, last layer": partial(by_columns, layer=-1),
    "columns, first layer": partial(by_columns, layer=0),
}


def controls(grid: Sequence[int]) -> dict[str, Explainer]:
    """Maps that ask no net, and cost nothing."""
    return {"contrast": partial(by_contrast, grid=grid), "centre": partial(by_centre, grid=grid)}


def gradients(grid: Sequence[int], *, steps: int = 32) -> dict[str, Explainer]:
    """captum's, of one backward pass, or of so many steps."""
    options: dict[str, Any] = {"grid": grid}
    return {
        "captum: gradient": partial(by_captum, method=Saliency, **options),
        "captum: gradient x input": partial(by_captum, method=InputXGradient, **options),
        "captum: integrated gradients": partial(
            by_captum, method=IntegratedGradients, n_steps=steps, internal_batch_size=AT_A_TIME, **options
        ),
    }


def cams(grid: Sequence[int], layers: dict[str, str]) -> dict[str, Explainer]:
    """captum's Grad-CAM on layers, by how they are called."""
    return {
        f"captum: Grad-CAM, {name}": partial(by_cam, layer=layer, grid=grid) for name, layer in layers.items()
    }


def perturbations(grid: Sequence[int], size: Sequence[int]) -> dict[str, Explainer]:
    """captum's, which replace patches by the mean: a pass for each, and more."""
    height, width = (side // count for side, count in zip(size, grid, strict=True))
    numbers = torch.arange(grid[0] * grid[1]).view(1, 1, *grid).float()
    patches = F.interpolate(numbers, size=tuple(size), mode="nearest").long()
    return {
        "captum: feature ablation": partial(
            by_captum, method=FeatureAblation, feature_mask=patches, grid=grid
        ),
        "captum: occlusion": partial(
            by_captum,
            method=Occlusion,
            sliding_window_shapes=(1, 2 * height, 2 * width),
            strides=(1, height, width),
            grid=grid,
        ),
        "captum: kernel SHAP": partial(
            by_captum,
            method=KernelShap,
            feature_mask=patches,
            n_samples=SHAP_SAMPLES,
            perturbations_per_eval=SHAP_SAMPLES,
            grid=grid,
        ),
    }
