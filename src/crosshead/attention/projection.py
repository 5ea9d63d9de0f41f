"""Linear maps of tokens, each by the quickest of torch's ways.

Legend: `B` batch, `N` tokens, `C` and `C'` channels before and after.
"""

from typing import TypeGuard

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from crosshead.attention.plain import has_hooks_on_every_module, is_plain
from crosshead.attention.transforms import under_torch_func

# From so many tokens on, in a whole batch, a convolution is taken: docs/decisions.md, "Projections as
# convolutions".
CONVOLVED_FROM = 64
# Asked once: torch.compile cannot trace the question.
_HAS_ONEDNN = torch.backends.mkldnn.is_available()


def project(layer: nn.Module, x: Tensor) -> Tensor:
    """What a linear layer gives for `(B, N, C)`: by its call, or from its weights where nobody could tell.

    Example:
        >>> project(nn.Linear(6, 4), torch.ones(2, 3, 6)).shape
        torch.Size([2, 3, 4])
    """
    return linear(x, layer.weight, layer.bias) if weights_tell_all(layer, x) else layer(x)


def weights_tell_all(layer: nn.Module, x: object) -> TypeGuard[nn.Linear]:
    """Whether the weights of `layer` may stand for its call on `x`.

    Under symbolic tracing they may not: tools trace in order to put another layer in its place.
    """
    return isinstance(x, Tensor) and not has_hooks_on_every_module() and is_plain(layer, nn.Linear)


def linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear` of `(B, N, C)` to `(B, N, C')`; on CPUs, in float32, by way of a 1 x 1 convolution.

    oneDNN's convolutions add the bias as they go; where this was measured they outran torch's products.

    Example:
        >>> x, weight, bias = torch.randn(1, 99, 6), torch.randn(4, 6), torch.randn(4)
        >>> torch.allclose(linear(x, weight, bias), F.linear(x, weight, bias), atol=1e-5)
        True
    """
    return convolution(x, weight, bias) if _convolves(x, weight) else F.linear(x, weight, bias)


def convolution(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`linear` as a convolution, whatever the device and dtype.

    Example:
        >>> convolution(torch.ones(1, 3, 2), torch.ones(4, 2), None).shape
        torch.Size([1, 3, 4])
    """
    image = x.transpose(1, 2).unsqueeze(2)  # one row of pixels, channels innermost in memory
    return F.conv2d(image, weight[:, :, None, None], bias).squeeze(2).transpose(1, 2)


def _convolves(x: Tensor, weight: Tensor) -> bool:
    # Compilers choose by themselves, exports are for other runtimes, and transforms know products better.
    if torch.compiler.is_compiling() or torch.jit.is_tracing() or under_torch_func():
        return False
    return (
        x.device.type == "cpu"
        and x.dtype == weight.dtype == torch.float32
        and type(x) is Tensor
        and x.shape[0] * x.shape[1] >= CONVOLVED_FROM
        and _HAS_ONEDNN
        and not torch.is_autocast_enabled("cpu")
    )
