"""The weights of a run, in a folder of their own; and what is known of models by name."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, TypeVar

import timm
from safetensors.torch import save as serialize
from torch import Tensor, nn

import crosshead.vision  # noqa: F401  registers the iViT models with timm
from crosshead.runs.folder import RunError, RunFolder, write_atomically, write_json
from crosshead.tasks.meta import Facts
from crosshead.tasks.recipe import Recipe

N = TypeVar("N", bound=nn.Module)


def require_known(model: str) -> str:
    """The name of a timm model without the tag of its weights.

    Raises:
        RunError: If timm does not know the model.

    Example:
        >>> require_known("resnet18.a1_in1k")
        'resnet18'
    """
    name = model.split(".")[0]
    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, [*timm.list_models("ivit*"), *timm.list_models()], n=3)
        hint = f"did you mean {' or '.join(similar)}?" if similar else "see `crosshead models`"
        raise RunError(f"model {model} is unknown: {hint}")
    return name


def build_dense(recipe: Recipe, build: Callable[[dict[str, Any]], N]) -> N:
    """A net around a backbone of timm.

    Args:
        recipe: Names the backbone and its arguments.
        build: Makes the net, given the backbone's options.

    Raises:
        RunError: If timm does not know the backbone, or it refuses the arguments.
    """
    require_known(recipe.model)
    options = dict(recipe.model_args)
    # timm drops what is None, but not every model knows the rate.
    if recipe.drop_path:
        options["drop_path_rate"] = recipe.drop_path
    try:
        net = build(options)
    except Exception as error:
        # Constructors of a thousand models signal unfit arguments with every kind of exception.
        reason = " ".join(str(error).split())
        raise RunError(f"model {recipe.model} with {options} cannot be built: {reason}") from error
    return net


def dense_config(recipe: Recipe, facts: Facts, **head: Any) -> dict[str, Any]:
    """What model/config.json says about a net around a backbone.

    Args:
        recipe: The recipe.
        facts: What the net knows about the data.
        **head: The choices of what stands around the backbone.
    """
    return {
        "architecture": recipe.model.split(".")[0],
        "model_args": dict(recipe.model_args),
        "label_names": list(facts.classes),
        "crosshead": {"task": recipe.task, **head, **dataclasses.asdict(facts)},
    }


def save_model(
    run: RunFolder, config: dict[str, Any], state: dict[str, Tensor], *, note: dict[str, Any]
) -> None:
    """Writes `model/`.

    Args:
        run: The run.
        config: What config.json says about the net.
        state: Its weights.
        note: What else to remember: the epoch, and whether the weights are an average.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_json(run.config, {**config, "crosshead": {**config.get("crosshead", {}), **note}})
    write_atomically(run.weights, serialize(weights, metadata={"format": "pt"}))


def count_parameters(model: nn.Module) -> int:
    """Number of parameters.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in model.parameters())
