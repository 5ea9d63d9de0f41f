"""What a vision model costs at one image size: parameters, multiply-adds, activations."""

from collections.abc import Container
from typing import Any, NamedTuple

import timm
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode

from crosshead.attention.module import InteractiveAttention
from crosshead.measure.flops import flop_counter


class Footprint(NamedTuple):
    """The cost of one forward pass of one image.

    Attributes:
        parameters: learned numbers.
        multiply_adds: multiply-adds of all products and convolutions, half of torch's FLOPs.
        activations: elements that these products and convolutions write.
    """

    parameters: int
    multiply_adds: int
    activations: int


def footprint(model_name: str, *, image_size: int = 224, **options) -> Footprint:
    """Measures a registered model without computing anything: shapes alone pass through it.

    Attention is counted product by product, as its equations stand: no figure depends on which kernels this
    machine has, or on `impl`.

    Args:
        model_name: timm's name of the model.
        image_size: height and width in pixels.
        **options: constructor arguments of the model.

    Returns:
        Its `Footprint`, products of the attention and of pooling included.

    Raises:
        ValueError: if `image_size` is below 1.

    Source: multiply-adds after `torch.utils.flop_counter`; activations as in arXiv 2003.13678, with
    the products of attention counted too.

    Example:
        >>> import crosshead.vision
        >>> footprint("ivit_nano", num_classes=10).parameters < footprint("ivit_nano").parameters
        True
    """
    if image_size < 1:
        raise ValueError(f"image_size must be 1 pixel or more; got {image_size}")
    with torch.device("meta"):
        model: Any = timm.create_model(model_name, **options).eval()
    channels = options.get("in_chans", model.pretrained_cfg["input_size"][0])
    with FakeTensorMode(allow_non_fake_inputs=True), torch.no_grad():
        model.to_empty(device="cpu")
        image = torch.empty(1, channels, image_size, image_size)
        # One operator that does several products would hide what all but the last of them write.
        for module in model.modules():
            if isinstance(module, InteractiveAttention):
                module.impl = "reference"
        with (
            sdpa_kernel(SDPBackend.MATH),
            flop_counter() as flops,
            _WrittenByProducts(flops.flop_registry) as written,
        ):
            model(image)
        parameters = sum(parameter.numel() for parameter in model.parameters())
    return Footprint(parameters, flops.get_total_flops() // 2, written.elements)


class _WrittenByProducts(TorchDispatchMode):
    def __init__(self, products: Container[object]) -> None:
        super().__init__()
        self.products = products
        self.elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        if func._overloadpacket in self.products:
            self.elements += out.numel()
        return out
