"""The trained ViT that is to be linearized: where it comes from, and what it is."""

import json
from dataclasses import dataclass, replace
from typing import Any

import timm
import torch
from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from crosshead.tasks.linearize.recipe import LOCAL, LinearizeRecipe, teacher_folder
from crosshead.tasks.net import require_known
from crosshead.tasks.task import DataError
from crosshead.vision.on_grid import GridViT
from crosshead.vision.swap import require_swappable, swap_silently

LARGEST_BY_DEFAULT = 224


@dataclass(frozen=True, kw_only=True)
class Teacher:
    """A ViT by name.

    Attributes:
        name: as `timm.create_model` takes it.
        architecture: timm's name of the model, without the tag of its weights.
        arguments: of its constructor.
        labels: names of its classes; empty where they are not known.
    """

    name: str
    architecture: str
    arguments: dict[str, Any]
    labels: tuple[str, ...] = ()

    def build(self, *, pretrained: bool) -> VisionTransformer:
        """The model, in evaluation mode, its parameters frozen.

        Args:
            pretrained: with its weights. Without them nothing is read but the folder's config.json.

        Raises:
            ValueError: if it cannot be built, or its weights cannot be had.
        """
        try:
            # The type of timm's models does not tell one from another; those who swap attention look.
            model: Any = timm.create_model(self.name, pretrained=pretrained, **self.arguments)
        except (HfHubHTTPError, LocalEntryNotFoundError, ConnectionError) as error:
            raise ValueError(
                f"the weights of {self.name} cannot be fetched ({_first_line(error)}): connect to the "
                "network, or name a folder that holds config.json and model.safetensors"
            ) from None
        except Exception as error:
            # Constructors of a thousand models signal unfit arguments with every kind of exception.
            raise ValueError(
                f"model {self.name} with {self.arguments} cannot be built: {' '.join(str(error).split())}"
            ) from error
        return model.eval().requires_grad_(False)


def find_teacher(recipe: LinearizeRecipe) -> Teacher:
    """What a recipe calls its model.

    Raises:
        ValueError: if timm does not know it, or its folder has no readable config.json.
    """
    # The image size stays free, so that a net that learned at one size is of use at all others.
    free = {"dynamic_img_size": True, **recipe.model_args}
    path = teacher_folder(recipe.model)
    if path is None:
        return Teacher(name=recipe.model, architecture=require_known(recipe.model), arguments=free)
    if not path.is_dir():
        raise ValueError(
            f"model {recipe.model}: no such folder: name a run folder, a folder of config.json and "
            "model.safetensors, or a ViT of timm"
        )
    folder = path / "model" if (path / "model").is_dir() else path
    file = folder / "config.json"
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
        architecture, arguments = str(config["architecture"]), dict(config.get("model_args") or {})
        labels = tuple(map(str, config.get("label_names") or ()))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise ValueError(
            f"model {recipe.model}: {file} is no configuration of a timm model ({_first_line(error)}): name "
            "a run folder, or a folder of config.json and model.safetensors"
        ) from None
    require_known(architecture)
    if architecture == "linearized_vit" or (config.get("crosshead") or {}).get("swap_landmarks"):
        raise ValueError(f"model {recipe.model} is linear already: name a ViT with softmax attention")
    return Teacher(
        name=f"{LOCAL}{folder}", architecture=architecture, arguments={**arguments, **free}, labels=labels
    )


def build_student(recipe: LinearizeRecipe, teacher: VisionTransformer) -> GridViT:
    """A ViT of the teacher's weights with other attention; takes over the teacher itself.

    Raises:
        ValueError, TypeError, NotImplementedError: as `crosshead.vision.swap_attention`.
    """
    student = swap_silently(
        teacher,
        landmarks=recipe.landmarks if len(recipe.landmarks) == 2 else recipe.landmarks[0],
        mixing=recipe.mixing,
        mixing_group_size=recipe.mixing_group_size,
        local_kernel=recipe.local_kernel,
        keep=recipe.keep,
    )
    if recipe.grad_checkpointing:
        student.set_grad_checkpointing()
    return student


def require_finite(teacher: VisionTransformer, image_size: int) -> None:
    """Makes sure that a teacher gives numbers.

    Raises:
        DataError: if it does not.
    """
    weight = next(teacher.parameters())
    grey = torch.zeros(1, in_chans(teacher), image_size, image_size, device=weight.device, dtype=weight.dtype)
    with torch.inference_mode():
        if not teacher.forward_features(grey).isfinite().all():
            raise DataError(
                "the teacher gives no finite tokens for a grey image: its weights are damaged, get them again"
            )


def in_chans(model: VisionTransformer) -> int:
    """Channels of the images that a ViT takes."""
    projection: Any = model.patch_embed.proj if hasattr(model.patch_embed, "proj") else None
    if isinstance(projection, nn.Conv2d) and not hasattr(model.patch_embed, "backbone"):
        return projection.in_channels
    return int(timm_config(model)["input_size"][0])


def describe(teacher: Teacher) -> VisionTransformer:
    """The model without memory for its weights.

    Raises:
        ValueError: if it cannot be built, or is no ViT.
        NotImplementedError: if something about its attention could not be kept.
    """
    with torch.device("meta"):
        try:
            return _swappable(teacher)
        except ValueError:
            # Of what has no free image size it is told what it is, rather than which argument it lacks.
            fixed = {name: value for name, value in teacher.arguments.items() if name != "dynamic_img_size"}
            _swappable(replace(teacher, arguments=fixed))
            raise


def _swappable(teacher: Teacher) -> VisionTransformer:
    try:
        model = require_swappable(teacher.build(pretrained=False))
    except TypeError as error:
        raise ValueError(str(error)) from None
    if not isinstance(model, VisionTransformer):
        raise ValueError(
            f"model {teacher.name} is a {type(model).__name__}: give one that timm builds as a "
            "VisionTransformer, with use_naflex=False"
        )
    return model


def timm_config(model: VisionTransformer) -> dict[str, Any]:
    """What timm knows of a model's weights and of the images that it wants."""
    config: Any = model.pretrained_cfg
    return dict(config)


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
