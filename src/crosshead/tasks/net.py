"""Nets around a model of timm: the names that timm knows, errors that say what does not fit, and devices."""

import dataclasses
import difflib
from collections.abc import Callable
from typing import Any, TypeVar

import timm
import torch
from torch import nn

import crosshead.vision  # noqa: F401  registers the iViT models with timm
from crosshead.tasks.recipe import Recipe
from crosshead.tasks.task import Meta

N = TypeVar("N", bound=nn.Module)


def require_known(model: str) -> str:
    """The name of a timm model without the tag of its weights.

    Raises:
        ValueError: if timm does not know the model.

    Example:
        >>> require_known("resnet18.a1_in1k")
        'resnet18'
    """
    name = model.split(".")[0]
    if not timm.is_model(name):
        similar = difflib.get_close_matches(name, [*timm.list_models("ivit*"), *timm.list_models()], n=3)
        hint = f"did you mean {' or '.join(similar)}?" if similar else "see `crosshead models`"
        raise ValueError(f"model {model} is unknown: {hint}")
    return name


def build_dense(recipe: Recipe, build: Callable[[dict[str, Any]], N]) -> N:
    """A net around a backbone of timm.

    Args:
        recipe: names the backbone and its arguments.
        build: makes the net, given the backbone's options.

    Raises:
        ValueError: if timm does not know the backbone, or it refuses the arguments.
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
        raise ValueError(f"model {recipe.model} with {options} cannot be built: {reason}") from error
    return net


def device_of(net: nn.Module) -> torch.device:
    """Where a net computes; a net without parameters, such as an exported one, on the CPU.

    Example:
        >>> device_of(nn.Linear(1, 1)), device_of(nn.ReLU())
        (device(type='cpu'), device(type='cpu'))
    """
    parameter = next(net.parameters(), None)
    return torch.device("cpu") if parameter is None else parameter.device


def dense_config(recipe: Recipe, meta: Meta, **head: Any) -> dict[str, Any]:
    """What model/config.json says about a net around a backbone.

    Args:
        recipe: the recipe.
        meta: what the net knows about the data.
        **head: the choices of what stands around the backbone.
    """
    return {
        "architecture": recipe.model.split(".")[0],
        "model_args": dict(recipe.model_args),
        "label_names": list(meta.classes),
        "crosshead": {"task": recipe.task, **head, **dataclasses.asdict(meta)},
    }
