"""A computation to time and to weigh: a forward pass, or a forward and a backward pass."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy


class Computed(NamedTuple):
    """What one run returns; a forward pass has no gradients."""

    output: Tensor
    gradients: tuple[Tensor, ...] = ()


@dataclass(frozen=True)
class Workload:
    """A run without arguments, and the tensors that exist before it.

    Attributes:
        run: computes everything once.
        given: inputs, parameters and cotangent.
        compiles: whether the first run of a length builds a program for it.
    """

    run: Callable[[], Computed]
    given: Sequence[Tensor]
    compiles: bool = False


def make_workload(
    compute: Callable[[], Tensor],
    given: Sequence[Tensor],
    *,
    leaves: Sequence[Tensor] = (),
    loss: Callable[[Tensor], Tensor] = lambda output: output,
    cotangent: Tensor | None = None,
    compiles: bool = False,
) -> Workload:
    """A computation alone, or with its gradients.

    Args:
        compute: returns the output.
        given: what it reads.
        leaves: what to differentiate by; without any there is no backward pass. Leaves that the output does
            not depend on have no gradient.
        loss: what to differentiate, of the output; the output itself by default.
        cotangent: the gradient that arrives there; may be left out for a number.
        compiles: as for `Workload`.

    Example:
        >>> x = torch.ones(3, requires_grad=True)
        >>> make_workload(lambda: 2 * x, [x]).run().output
        tensor([2., 2., 2.])
        >>> make_workload(lambda: 2 * x, [x], leaves=[x], loss=torch.sum).run().gradients
        (tensor([2., 2., 2.]),)
    """

    def run() -> Computed:
        with torch.set_grad_enabled(bool(leaves)):
            output = compute()
        if not leaves:
            return Computed(output)
        found = torch.autograd.grad(loss(output), leaves, cotangent, allow_unused=True)
        return Computed(output.detach(), tuple(x for x in found if x is not None))

    return Workload(run, given, compiles)


def classifier_workload(
    model: nn.Module, samples: Tensor, *, train: bool, compiled: bool = False
) -> Workload:
    """A classifier on a batch: inference, or forward and backward as in training, without the optimiser.

    Args:
        model: from samples to logits; it is put into the mode that it is measured in.
        samples: the batch, on the device of the model.
        train: whether gradients are computed.
        compiled: whether torch.compile builds a program for this size.
    """
    parameters = [parameter for parameter in model.train(train).parameters() if parameter.requires_grad]
    classify: Callable[[Tensor], Tensor] = torch.compile(model, dynamic=False) if compiled else model
    return make_workload(
        lambda: classify(samples),
        [*model.parameters(), *model.buffers(), samples],
        leaves=parameters if train else (),
        loss=lambda output: cross_entropy(output.float(), torch.zeros_like(output[:, 0], dtype=torch.long)),
        compiles=compiled,
    )
