"""What a score is owed to: attention weighted by the gradient of the score.

Legend: `B` batch, `H` heads, `N` query tokens, `M` key tokens, `L` landmarks, `D` head dim; `dX` is the
gradient of the score by X.

With the map `A` of a head, `O = A V` and `dA = dO V^T`. The gradient-weighted map is `A * dA`, entry by
entry, and N x M; its sums over the tokens that ask are not: `sum_i A_ij dA_ij = v_j . (F_k^T F_q^T dO)_j`.
"""

from itertools import pairwise

import torch
from torch import Tensor

from crosshead.explain.call import LayerCall
from crosshead.explain.factors import sum_of
from crosshead.explain.path import path_of, spread
from crosshead.explain.recording import Recording


def layer_relevance(recording: Recording, score: Tensor) -> dict[str, Tensor]:
    """What a score is owed to what each head takes from each token, layer by layer.

        rho_j = sum_i A_ij dA_ij = v_j . dv_j          O(N L H (D + H)) for each layer

    To first order, this is how much the score would fall if the head took nothing from token j. Over all
    tokens it sums to `sum_i O_i . dO_i`. A score may be any number that the net computes: of a class,
    `scores[0, 3]`; of a box, `detections[0]["scores"][0]`; of a pixel, `scores[0, 1, y, x]`.

    Args:
        recording: made with `gradients=True`, of one forward pass; of any layers, cross-attention too.
        score: a single number that this pass gave. Others may be asked about later.

    Returns:
        `(B, H, M)` for each layer, by name, prefix tokens first; signed. Zero where the score does not depend
        on a layer.

    Raises:
        ValueError: if the recording has no gradients, a layer was called several times, or the weights have
            changed; if the score is not one number, or has no graph.

    Source: the gradient-weighted map of H. Chefer, S. Gur, L. Wolf, arXiv 2103.15679, summed over its rows.

    Example:
        >>> from crosshead.explain import layer_relevance, record
        >>> from crosshead.vision import IViT
        >>> net = IViT(num_classes=10, depths=(1, 1, 2, 1), dims=(16, 16, 32, 32)).eval()
        >>> with record(net, layers="stages.2", gradients=True) as recording:
        ...     scores = net(torch.randn(1, 3, 128, 96))
        >>> found = layer_relevance(recording, scores[0, 3])
        >>> {name: tuple(of_tokens.shape) for name, of_tokens in found.items()}
        {'stages.2.blocks.0.attn': (1, 2, 48), 'stages.2.blocks.1.attn': (1, 2, 48)}
    """
    calls = recording.one_pass()
    outputs = [call.output for call in calls if call.output is not None]
    if len(outputs) < len(calls):
        raise ValueError("recording must have gradients: make it with record(model, gradients=True)")
    if score.numel() != 1:
        raise ValueError(
            f"score must be one number; got {tuple(score.shape)}: choose one, such as scores[0, 3]"
        )
    if not score.requires_grad or not all(output.requires_grad for output in outputs):
        raise ValueError(
            "score must have a graph back to the layers; got none: call the net itself, not predict, without "
            "torch.no_grad, torch.inference_mode and gradient checkpointing"
        )
    gradients = torch.autograd.grad(
        score.sum(), outputs, retain_graph=True, allow_unused=True, materialize_grads=True
    )
    return {call.name: _owed(call, gradient) for call, gradient in zip(calls, gradients, strict=True)}


def relevance(recording: Recording, score: Tensor) -> Tensor:
    """To which tokens a score is owed, through all recorded layers, on the grid of the first of them.

        R_j = sum over layers of  mean_h max(0, rho_j^h)          with rho of `layer_relevance`

    Only what goes through attention is told: what a net makes of a token by convolutions and MLPs, and hands
    on along its residual connections, is not. Deeper stages of a hierarchical net hand the share of a token
    to the cell of finer tokens that it stands for, all of them alike.

    Of the rule of Chefer et al., `R = prod (1 + mean_h max(0, A * dA))`, this is the part of first order,
    summed over rows. A head's share is clamped after that sum, not entry by entry: entries are N x N.

    Args:
        recording: as for `layer_relevance`, of layers of self-attention from fine to coarse.
        score: as for `layer_relevance`.

    Returns:
        `(B, N)`, the tokens of the first layer, prefix tokens first; `on_grid` lays them on its grid. Not
        negative; in the unit of the score.

    Raises:
        ValueError: as `layer_relevance`; if a layer looks at a context, or stands on a finer grid than the
            one before it.

    Source: H. Chefer, S. Gur, L. Wolf, arXiv 2103.15679, sections 3.1 and 3.2, changed as said.

    Example:
        >>> from crosshead.explain import on_grid, record, relevance
        >>> from crosshead.vision import IViT
        >>> net = IViT(num_classes=10, depths=(1, 1, 2, 1), dims=(16, 16, 32, 32)).eval()
        >>> with record(net, gradients=True) as recording:
        ...     scores = net(torch.randn(1, 3, 128, 96))
        >>> on_grid(relevance(recording, scores[0, 3]), recording[0].grid).shape
        torch.Size([1, 8, 6])
    """
    calls = path_of(recording)
    owed = layer_relevance(recording, score)
    total = torch.zeros(())
    for coarse, fine in [*pairwise(reversed(calls)), (calls[0], calls[0])]:
        total = spread(total + owed[coarse.name].clamp(min=0).mean(1), coarse, fine)
    return total


@torch.no_grad()
def _owed(call: LayerCall, gradient: Tensor) -> Tensor:
    """`v_j . (F_k^T F_q^T dO)_j`, (B, H, M), of the gradient of what heads gave, (B, H, N, D)."""
    factors = call.factors
    gradient = gradient.to(factors.key_landmarks.dtype)
    of_summaries = sum_of(factors.query(tile).mT @ gradient[:, :, tile] for tile in factors.query_tiles())
    tiles = factors.key_tiles()
    found = [(factors.key(tile).mT @ of_summaries * call.values(tile)).sum(-1) for tile in tiles]
    return torch.cat(found, -1)
