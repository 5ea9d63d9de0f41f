"""The net of a run: built by timm from a recipe, and kept in a folder that timm reads."""

import difflib
from typing import Any

import timm
from safetensors.torch import save as serialize
from torch import Tensor, nn

import crosshead.vision  # noqa: F401  registers the iViT models with timm
from crosshead.runs.folder import RunError, RunFolder, write_atomically, write_json
from crosshead.runs.recipe import ClassifyRecipe
from crosshead.runs.record import ImageFacts


def build_model(recipe: ClassifyRecipe, images: ImageFacts) -> nn.Module:
    """The net that a recipe describes, freshly initialised unless the recipe asks for timm's weights.

    Args:
        recipe: Names the model, its arguments, its dropout rates and whether its attention is exchanged.
        images: Classes, channels and size.

    Raises:
        RunError: If timm does not know the model, or the model refuses the arguments.
    """
    arguments = model_arguments(recipe, images)
    # timm drops what is None, and not every model knows every rate.
    rates: dict[str, Any] = {
        "drop_path_rate": recipe.drop_path or None,
        "drop_rate": recipe.dropout or None,
    }
    try:
        model = timm.create_model(
            recipe.model,
            pretrained=recipe.pretrained,
            num_classes=len(images.classes),
            in_chans=images.in_chans,
            **arguments,
            **rates,
        )
        if recipe.swap_landmarks is not None:
            from crosshead.vision.swap import swap_attention

            model = swap_attention(model, landmarks=recipe.swap_landmarks)
    except Exception as error:
        # Constructors of a thousand models signal unfit arguments with every kind of exception.
        reason = " ".join(str(error).split())
        raise RunError(f"model {recipe.model} with {arguments} cannot be built: {reason}") from error
    return model


def model_arguments(recipe: ClassifyRecipe, images: ImageFacts) -> dict[str, Any]:
    """The constructor arguments of a recipe's model, the image size among them where it fixes parameters.

    Raises:
        RunError: If timm does not know the model.
    """
    name = recipe.model.split(".")[0]
    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, [*timm.list_models("ivit*"), *timm.list_models()], n=3)
        hint = f"did you mean {' or '.join(similar)}?" if similar else "see `crosshead models`"
        raise RunError(f"model {recipe.model} is unknown: {hint}")
    config = timm.get_pretrained_cfg(name)
    if config is not None and config.fixed_input_size:
        return {"img_size": images.image_size, **recipe.model_args}
    return dict(recipe.model_args)


def save_model(
    run: RunFolder,
    recipe: ClassifyRecipe,
    images: ImageFacts,
    model: nn.Module,
    state: dict[str, Tensor],
    *,
    note: dict[str, Any],
) -> None:
    """Writes `model/`, readable by `timm.create_model("local-dir:RUN/model", pretrained=True)`.

    Args:
        run: The run.
        recipe: Its recipe.
        images: Its classes, sizes and normalisation.
        model: The net, for what its configuration says.
        state: Its weights.
        note: What else to remember: the epoch, and whether the weights are an average.
    """
    own: dict[str, Any] = dict(getattr(model, "pretrained_cfg", {}) or {})
    kept = ("first_conv", "classifier", "pool_size", "fixed_input_size")
    config = {
        "architecture": recipe.model.split(".")[0],
        "num_classes": len(images.classes),
        "num_features": getattr(model, "num_features", None),
        "label_names": list(images.classes),
        "model_args": model_arguments(recipe, images),
        "pretrained_cfg": {
            **{key: own[key] for key in kept if own.get(key) is not None},
            "input_size": [images.in_chans, images.image_size, images.image_size],
            "num_classes": len(images.classes),
            "mean": list(images.mean),
            "std": list(images.std),
            "crop_pct": recipe.crop_share,
            "interpolation": "bilinear",
        },
        "crosshead": {"swap_landmarks": recipe.swap_landmarks, **note},
    }
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_json(run.config, config)
    write_atomically(run.weights, serialize(weights, metadata={"format": "pt"}))


def count_parameters(model: nn.Module) -> int:
    """Number of parameters.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in model.parameters())
