"""Recording what attention layers work from while a model runs.

Legend: `B` batch, `N` query tokens, `M` key tokens, `C` channels, `H` heads, `D = C / H`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from torch import Tensor, nn

from crosshead.attention.impl.precision import autocast_exists
from crosshead.attention.module import InteractiveAttention
from crosshead.attention.pooling import Pooling
from crosshead.attention.transforms import under_torch_func
from crosshead.explain.call import LayerCall, versions
from crosshead.explain.layers import Layers, chosen_layers
from crosshead.explain.recording import BUDGET, Recording


@contextmanager
def record(
    model: nn.Module, layers: Layers = None, *, gradients: bool = False, budget: int = BUDGET
) -> Iterator[Recording]:
    """Records what attention layers of a model work from while it runs inside the block.

    The model computes what it computes, by the implementation that it has: factors that a kernel never kept
    are formed from the recording later, piece by piece. Of each call the tokens that went in are copied,
    `B N C` numbers; nothing of what follows is N x M, and nothing is kept beyond the `Recording`.

    Every call inside the block is recorded, in order: two forward passes give two calls of each layer, of
    which `recording[layer]` is the last. Blocks may be nested, each records for itself. After the block, or
    an error in it, the model is as it was.

    Record in evaluation mode: dropout inside a projection would be drawn anew for what is asked later.

    Args:
        model: any module that holds `InteractiveAttention`: an iViT, a swapped or linearized ViT, a net
            around one of them; `crosshead.load(run).net`.
        layers: names, numbers from 0 or from -1 backwards, or a list of them; None for all. The name of a
            part of the model means the layers in it.
        gradients: keep the graph of what heads give, for `relevance`; the model must run with gradients then.
        budget: the bytes that the recording may hold, 200 MiB by default. With `gradients`, what autograd
            keeps comes on top, as for any backward pass.

    Yields:
        The `Recording`, which fills as the model runs.

    Raises:
        TypeError: if `model` is not a module.
        ValueError: if it has no interactive attention or no such layer; if it is compiled or exported; if the
            recording outgrows its budget; at the end, if no layer was called.

    Example:
        >>> import torch
        >>> from crosshead.explain import map_rows, record
        >>> from crosshead.vision import IViT
        >>> net = IViT(num_classes=10, depths=(1, 1, 2, 1), dims=(16, 16, 32, 32)).eval()
        >>> with torch.inference_mode(), record(net, layers=["stages.2"]) as recording:
        ...     scores = net(torch.zeros(1, 3, 128, 128))
        >>> recording.names
        ['stages.2.blocks.0.attn', 'stages.2.blocks.1.attn']
        >>> call = recording["stages.2.blocks.1.attn"]
        >>> call.grid, call.heads, call.cells
        ((8, 8), 2, (6, 6))
        >>> map_rows(call, (3, 5), heads=1).shape
        torch.Size([1, 1, 1, 64])
    """
    chosen = chosen_layers(model, layers)
    recording = Recording(budget=budget)
    observers = {layer: _Observer(recording, name, gradients) for name, layer in chosen.items()}
    for layer, observer in observers.items():
        layer._observers = (*layer._observers, observer)
    try:
        yield recording
    finally:
        for layer, observer in observers.items():
            rest = tuple(other for other in layer._observers if other is not observer)
            del layer._observers
            if rest:
                layer._observers = rest
    if not recording.calls:
        raise ValueError(
            f"no forward pass was seen: the block called none of {', '.join(chosen)}; call the model in it"
        )


class _Observer:
    """Notes the calls of one layer."""

    def __init__(self, recording: Recording, name: str, gradients: bool) -> None:
        self.recording, self.name, self.gradients = recording, name, gradients

    def __call__(
        self,
        layer: InteractiveAttention,
        x: Tensor,
        context: Tensor | None,
        pooling: Pooling,
        landmarks: tuple[Tensor, Tensor],
        output: Tensor,
    ) -> None:
        if torch.compiler.is_compiling() or under_torch_func():
            raise ValueError(
                "calls in torch.compile, torch.export or torch.func cannot be recorded: call the model itself"
            )
        if self.gradients and torch.is_grad_enabled() and not output.requires_grad:
            output.requires_grad_()  # of frozen models too
        device = x.device.type
        autocast = autocast_exists(device) and torch.is_autocast_enabled(device)
        self.recording.add(
            LayerCall(
                name=self.name,
                layer=layer,
                x=x,
                context=context,
                pooling=pooling,
                query_landmarks=landmarks[0],
                key_landmarks=landmarks[1],
                query_mixing=layer.query_mixing(),
                key_mixing=layer.key_mixing(),
                autocast=torch.get_autocast_dtype(device) if autocast else None,
                output=output if self.gradients else None,
                versions=versions(layer),
            )
        )

    def __reduce__(self) -> tuple:
        """A copy of the model, made inside the block, is not recorded."""
        return partial, (_look_away,)


def _look_away(*_: object) -> None:
    pass
