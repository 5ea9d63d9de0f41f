"""How well a student's tokens agree with its teacher's.

Legend: `B` images, `N` tokens, `P` of these class and register tokens, `C` channels.
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class Agreement(NamedTuple):
    """Of each image `(B,)`.

    Attributes:
        cosine: mean cosine of a token and the teacher's.
        centered: the same of what is left when each net's mean token of the image is taken off. A net that
            gives the teacher's mean everywhere has a high cosine, and 0 here.
    """

    cosine: Tensor
    centered: Tensor

    def cpu(self) -> "Agreement":
        """The same in the memory of the host."""
        return Agreement(self.cosine.cpu(), self.centered.cpu())


def agreement(student: Tensor, teacher: Tensor) -> Agreement:
    """Compares patch tokens `(B, N, C)`.

    Example:
        >>> tokens = torch.randn(2, 9, 4, dtype=torch.float64)
        >>> [round(float(value), 6) for value in agreement(3 * tokens, tokens).centered]
        [1.0, 1.0]
    """
    student, teacher = student.float(), teacher.float()
    return Agreement(
        cosine=F.cosine_similarity(student, teacher, dim=-1).mean(1),
        centered=F.cosine_similarity(
            student - student.mean(1, keepdim=True), teacher - teacher.mean(1, keepdim=True), dim=-1
        ).mean(1),
    )


def relative_error(actual: Tensor, expected: Tensor) -> Tensor:
    """The squared error over the squared size of what is expected, over all tokens of a batch.

    Example:
        >>> float(relative_error(torch.zeros(1, 2, 3), torch.ones(1, 2, 3)))
        1.0
    """
    actual, expected = actual.float(), expected.float()
    return (actual - expected).square().sum() / expected.square().sum().clamp(
        min=torch.finfo(torch.float32).tiny
    )
