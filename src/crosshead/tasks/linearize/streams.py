"""What flows between the blocks of a teacher and its student, for the same images: what a block learns from.

Legend: `B` images, `N` tokens, `C` channels, `F` inputs of a linear map.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from timm.models.vision_transformer import Block, VisionTransformer
from torch import Tensor, nn

from crosshead.vision.on_grid import Carried, GridViT

# Of the mean square of a linear map's inputs: what keeps its weights where the images say nothing.
RIDGE = 1e-2


class Part(NamedTuple):
    """A part of a block, which adds something to the tokens.

    Attributes:
        run: from `(B, N, C)` tokens and what is handed on as `attn_mask` to what the tokens are after it.
        last: the linear map that these are linear in; None where there is none.
        gain: `(C,)`, by which what `last` gives is multiplied; None for nothing.
    """

    run: Callable[[Tensor, Carried | None], Tensor]
    last: nn.Linear | None = None
    gain: Tensor | None = None


def parts(block: Any) -> tuple[Part, ...]:
    """The attention and the MLP of a block; the whole of one that does not have them in this order.

    Example:
        >>> [part.last for part in parts(Block(8, 2))]
        [Linear(in_features=8, out_features=8, bias=True), Linear(in_features=32, out_features=8, bias=True)]
    """
    if not isinstance(block, Block):
        return (Part(lambda tokens, carried: block(tokens, attn_mask=carried)),)

    def attend(tokens: Tensor, carried: Carried | None) -> Tensor:
        return tokens + block.ls1(block.attn(block.norm1(tokens), attn_mask=carried))

    def transform(tokens: Tensor, carried: Carried | None) -> Tensor:
        return tokens + block.ls2(block.mlp(block.norm2(tokens)))

    return (
        Part(attend, _linear(block.attn, "proj"), getattr(block.ls1, "gamma", None)),
        Part(transform, _linear(block.mlp, "fc2"), getattr(block.ls2, "gamma", None)),
    )


def _linear(module: nn.Module, name: str) -> nn.Linear | None:
    found = getattr(module, name, None)
    return found if isinstance(found, nn.Linear) else None


class Streams:
    """Tokens of a fixed set of images, in front of a part of a block in a student, behind it in its teacher.

    They are kept in the host's memory: 8 bytes for each token and channel.

    Args:
        teacher: the one.
        student: the other, which embeds images as its teacher does.
        batches: (B, 3, H, W) images; each batch has its own size.
        device: what computes.

    Attributes:
        block: the place of the block.
        part: the place of the part in it.
        given: what it gets in the student, by batch.
        wanted: what comes out of it in the teacher.
    """

    def __init__(
        self,
        teacher: VisionTransformer,
        student: GridViT,
        batches: Iterable[Tensor],
        *,
        device: torch.device,
    ) -> None:
        self.teacher, self.student, self.device, self.block, self.part = teacher, student, device, 0, 0
        self.given: list[Tensor] = []
        self.grids: list[Carried | None] = []
        with torch.no_grad():
            for images in batches:
                with tapped(teacher, ["blocks.0"]) as taps:
                    teacher.forward_intermediates(
                        images.to(device), indices=[0], stop_early=True, intermediates_only=True
                    )
                self.given.append(taps["blocks.0"][0].float().cpu())
                self.grids.append(student.carried(*images.shape[-2:]))
        self.wanted = list(self.given)
        self._aim()

    def __len__(self) -> int:
        return len(self.given)

    @property
    def learner(self) -> Part:
        """The part, in the student."""
        return parts(self.student.blocks[self.block])[self.part]

    def errors(self, place: int) -> tuple[Tensor, Tensor]:
        """What the student's tokens after the part lack, and what the part has to add to those it gets.

        Both (B, N, C), of one batch.
        """
        given, wanted = (each[place].to(self.device) for each in (self.given, self.wanted))
        return wanted - self.learner.run(given, self.grids[place]).float(), wanted - given

    @torch.no_grad()
    def advance(self) -> None:
        """Goes on to the next part, or to the next block."""
        learner = self.learner
        for place, tokens in enumerate(self.given):
            self.given[place] = learner.run(tokens.to(self.device), self.grids[place]).float().cpu()
        self.part += 1
        if self.part == len(parts(self.student.blocks[self.block])):
            self.block, self.part = self.block + 1, 0
        if self.block < len(self.student.blocks):
            self._aim()

    @torch.no_grad()
    def _aim(self) -> None:
        model = parts(self.teacher.get_submodule(f"blocks.{self.block}"))[self.part]
        for place, tokens in enumerate(self.wanted):
            self.wanted[place] = model.run(tokens.to(self.device), None).float().cpu()

    @torch.no_grad()
    def refit(self, total: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> None:
        """Gives the part's last linear map the weights that bring its tokens closest to what is wanted.

        The change `W` of its weights minimises `|E - X W|^2 + r |W|^2` over all tokens: `X` `(B N, F + 1)`
        are its inputs and a 1 for the bias, `E` `(B N, C)` is what is lacking, and `r` is `RIDGE` times the
        sum of the squares of an input, on average. A part without such a map stays as it is.

        Args:
            total: adds up over processes.
        """
        _, last, gain = self.learner
        if last is None:
            return
        gram, cross = torch.zeros(()), torch.zeros(())
        for place in range(len(self)):
            with tapped(last, [""]) as taps:
                lacking, _ = self.errors(place)
            with torch.autocast(self.device.type, enabled=False):
                inputs = taps[""][0].flatten(0, 1).float()
                if last.bias is not None:
                    inputs = torch.cat([inputs, inputs.new_ones(len(inputs), 1)], 1)
                gram = gram + (inputs.mT @ inputs).cpu().double()
                cross = cross + (inputs.mT @ lacking.flatten(0, 1)).cpu().double()
        gram, cross = total(gram), total(cross)
        ridge = RIDGE * gram.diagonal().mean() * torch.eye(len(gram), dtype=gram.dtype)
        change = torch.linalg.solve(gram + ridge, cross)
        if gain is not None:
            gain = gain.cpu().double()
            # A channel that is multiplied by nothing has nothing to give.
            change = torch.where(gain.abs() > torch.finfo(torch.float32).eps, change / gain, 0)
        last.weight.add_(change[: last.in_features].mT.to(last.weight))
        if last.bias is not None:
            last.bias.add_(change[-1].to(last.bias))


@contextmanager
def tapped(net: nn.Module, names: Sequence[str]) -> Iterator[dict[str, tuple[Tensor, Tensor]]]:
    """What passes through modules of a net: from the name of each to its first input and its output."""
    passed: dict[str, tuple[Tensor, Tensor]] = {}

    def keep(name: str) -> Any:
        def hook(_module: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            passed[name] = (inputs[0], output)

        return hook

    hooks = [net.get_submodule(name).register_forward_hook(keep(name)) for name in names]
    try:
        yield passed
    finally:
        for hook in hooks:
            hook.remove()
