"""Which layers of a model can be looked into, and which are meant by a name or a number."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import nn

from crosshead.attention.module import InteractiveAttention

Layers = int | str | Iterable[int | str] | None


def attention_layers(model: nn.Module) -> dict[str, InteractiveAttention]:
    """The layers of interactive attention in a model, by their names in it, in the model's order.

    Raises:
        TypeError: if `model` is not a module.
        ValueError: if it has no such layer, is compiled, or exported.

    Example:
        >>> from crosshead.vision import IViT
        >>> list(attention_layers(IViT(depths=(1, 1, 1, 1))))
        ['stages.2.blocks.0.attn', 'stages.3.blocks.0.attn']
    """
    if not isinstance(model, nn.Module):
        remedy = (
            "give its net, model.net" if isinstance(getattr(model, "net", None), nn.Module) else "give a net"
        )
        raise TypeError(f"model must be a torch.nn.Module; got {type(model).__name__}: {remedy}")
    modules = dict(model.named_modules())
    if any(map(_is_compiled, modules.values())):
        raise ValueError(
            f"model must not be compiled; got {type(model).__name__} after torch.compile, which leaves no "
            "layer to look into: give what went in, or copy.deepcopy(model) after model.compile()"
        )
    found = {name: module for name, module in modules.items() if isinstance(module, InteractiveAttention)}
    if not found and (_is_graph(model) or next(model.parameters(), None) is None):
        raise ValueError(
            f"model must have layers; got {type(model).__name__}, and an exported net has none: load the run "
            "that it was exported from"
        )
    if not found:
        raise ValueError(
            f"model must hold InteractiveAttention; {type(model).__name__} holds none: take an iViT, or swap "
            "the attention of a ViT with crosshead.vision.swap_attention"
        )
    return found


def chosen_layers(model: nn.Module, layers: Layers = None) -> dict[str, InteractiveAttention]:
    """Those layers of `attention_layers` that are meant.

    Args:
        model: holds them.
        layers: names, numbers, or a list of them; None for all. A name is that of a layer, or of a part of
            the model, whose layers are meant then. Numbers count the layers from 0, or from -1 backwards.

    Raises:
        TypeError: if `model` is not a module, or a layer is neither a name nor a number.
        ValueError: if there is no such layer, or the model cannot be looked into.

    Example:
        >>> from crosshead.vision import IViT
        >>> list(chosen_layers(IViT(depths=(1, 1, 2, 1)), ["stages.2", -1]))
        ['stages.2.blocks.0.attn', 'stages.2.blocks.1.attn', 'stages.3.blocks.0.attn']
    """
    found = attention_layers(model)
    if layers is None:
        return found
    given = [layers] if isinstance(layers, int | str) else list(layers)
    chosen = {name for layer in given for name in named(layer, list(found))}
    if not chosen:
        raise ValueError("layers must name one layer or more; got none: leave it out for all")
    return {name: module for name, module in found.items() if name in chosen}


def named(layer: int | str, names: Sequence[str]) -> list[str]:
    """Those of the names that a name or a number means.

    Raises:
        TypeError: if it is neither.
        ValueError: if it means none; the nearest is told.

    Example:
        >>> names = ["blocks.0.attn", "blocks.1.attn"]
        >>> named("blocks.1", names), named(-2, names)
        (['blocks.1.attn'], ['blocks.0.attn'])
    """
    if isinstance(layer, bool) or not isinstance(layer, int | str):
        raise TypeError(f"a layer must be a name or a number; got {layer!r}: take {names[0]!r} or 0")
    if isinstance(layer, int):
        if not -len(names) <= layer < len(names):
            nearest = names[-1 if layer > 0 else 0]
            raise ValueError(
                f"layer must be {-len(names)} to {len(names) - 1}; got {layer}: the nearest is {nearest!r}"
            )
        return [names[layer]]
    found = [name for name in names if name == layer or name.startswith(f"{layer}.")]
    if not found:
        (nearest,) = difflib.get_close_matches(layer, names, n=1, cutoff=0)
        raise ValueError(f"layer {layer!r} is none of the {len(names)} layers: the nearest is {nearest!r}")
    return found


def _is_compiled(module: nn.Module) -> bool:
    from torch._dynamo.eval_frame import OptimizedModule

    return isinstance(module, OptimizedModule) or module._compiled_call_impl is not None


def _is_graph(model: Any) -> bool:
    return isinstance(model, torch.fx.GraphModule | torch.jit.ScriptModule)
