"""The net of a classification: built by timm from a recipe."""

from typing import Any

import timm
from torch import nn

from crosshead.tasks.classify.data import ClassifyMeta
from crosshead.tasks.classify.recipe import ClassifyRecipe
from crosshead.tasks.net import require_known
from crosshead.vision.swap import swap_silently


def build_model(recipe: ClassifyRecipe, meta: ClassifyMeta) -> nn.Module:
    """The net that a recipe describes, freshly initialised unless the recipe asks for timm's weights.

    Args:
        recipe: names the model, its arguments, its dropout rates and whether its attention is exchanged.
        meta: classes, channels and size.

    Raises:
        ValueError: if timm does not know the model, or the model refuses the arguments.
    """
    arguments = model_arguments(recipe, meta)
    try:
        model = timm.create_model(
            recipe.model,
            pretrained=recipe.pretrained,
            num_classes=len(meta.classes),
            in_chans=meta.in_chans,
            # timm drops what is None, and not every model knows every rate.
            drop_path_rate=recipe.drop_path or None,
            drop_rate=recipe.dropout or None,
            **arguments,
        )
        if recipe.swap_landmarks is not None:
            model = swap_silently(model, landmarks=recipe.swap_landmarks)
        if recipe.grad_checkpointing:
            # Every model of timm has it, which the type of a module does not say.
            model.set_grad_checkpointing()  # pyright: ignore[reportCallIssue]
    except Exception as error:
        # Constructors of a thousand models signal unfit arguments with every kind of exception.
        reason = " ".join(str(error).split())
        raise ValueError(f"model {recipe.model} with {arguments} cannot be built: {reason}") from error
    return model


def model_arguments(recipe: ClassifyRecipe, meta: ClassifyMeta) -> dict[str, Any]:
    """The constructor arguments of a recipe's model, the image size among them where it fixes parameters.

    Raises:
        ValueError: if timm does not know the model.
    """
    config = timm.get_pretrained_cfg(require_known(recipe.model))
    if config is not None and config.fixed_input_size:
        return {"img_size": meta.image_size, **recipe.model_args}
    return dict(recipe.model_args)


def model_config(recipe: ClassifyRecipe, meta: ClassifyMeta, model: nn.Module) -> dict[str, Any]:
    """What `timm.create_model("local-dir:RUN/model", pretrained=True)` reads after `import crosshead.vision`.

    Args:
        recipe: of the run.
        meta: classes, size, normalisation.
        model: the net, for what its configuration says.
    """
    own: dict[str, Any] = dict(getattr(model, "pretrained_cfg", {}) or {})
    kept = ("first_conv", "classifier", "pool_size", "fixed_input_size")
    return {
        "architecture": recipe.model.split(".")[0],
        "num_classes": len(meta.classes),
        "num_features": getattr(model, "num_features", None),
        "label_names": list(meta.classes),
        "model_args": model_arguments(recipe, meta),
        "pretrained_cfg": {
            **{key: own[key] for key in kept if own.get(key) is not None},
            "input_size": [meta.in_chans, meta.image_size, meta.image_size],
            "num_classes": len(meta.classes),
            "mean": list(meta.mean),
            "std": list(meta.std),
            "crop_pct": recipe.crop_fraction,
            "interpolation": "bilinear",
        },
        "crosshead": {"swap_landmarks": recipe.swap_landmarks},
    }
