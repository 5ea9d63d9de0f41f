"""How different from each other the heads of a trained model are.

Legend: `B` batch, `N` tokens, `H` heads, `E` value head dim.
"""

import torch
from torch import Tensor, nn

from crosshead.attention.module import InteractiveAttention
from crosshead.rivals.layer import Projected


def head_diversity(model: nn.Module, samples: Tensor) -> float | None:
    """One minus the mean similarity of two heads of a layer, averaged over layers.

    What a head gives is what the last projection reads of it; similarity is linear centred kernel alignment
    over all tokens of the samples: 0 for heads whose outputs are uncorrelated, 1 for heads that agree up to
    a rotation and a scale.

    Args:
        model: with attention layers that project once for all heads.
        samples: a batch of its inputs.

    Returns:
        Between 0 and 1; None where no layer has two heads whose outputs can be told apart.

    Source of the similarity: S. Kornblith et al., arXiv 1905.00414, section 3.

    Example:
        >>> layer = InteractiveAttention(32, 4, landmarks=(2,))
        >>> 0 < head_diversity(layer, torch.randn(2, 9, 32)) < 1
        True
    """
    layers = [
        module
        for module in model.modules()
        if isinstance(module, InteractiveAttention | Projected) and module.num_heads > 1
    ]
    found: list[Tensor] = []

    def keep(layer: InteractiveAttention | Projected):
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...]) -> None:
            heads = inputs[0].detach().double().flatten(0, 1).unflatten(-1, (layer.num_heads, -1))
            found.append(mean_similarity(heads.transpose(0, 1)))

        return layer.proj.register_forward_pre_hook(hook)

    hooks = [keep(layer) for layer in layers]
    training = model.training
    try:
        with torch.no_grad():
            model.eval()(samples)
    finally:
        for hook in hooks:
            hook.remove()
        model.train(training)
    return 1 - float(torch.stack(found).mean()) if found else None


def mean_similarity(heads: Tensor) -> Tensor:
    """The mean over pairs of heads of their linear centred kernel alignment, from `(H, tokens, E)`.

    Example:
        >>> one = torch.randn(1, 50, 4, dtype=torch.float64)
        >>> round(float(mean_similarity(torch.cat([one, 3 * one]))), 6)
        1.0
    """
    centred = heads - heads.mean(1, keepdim=True)
    products = torch.einsum("gne,hnf->ghef", centred, centred)
    shared = products.square().sum((2, 3))
    own = shared.diagonal().sqrt().clamp(min=torch.finfo(heads.dtype).tiny)
    alignment = shared / (own[:, None] * own)
    pairs = torch.triu(torch.ones_like(alignment, dtype=torch.bool), diagonal=1)
    return alignment[pairs].mean()
