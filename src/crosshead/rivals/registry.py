"""The rivals by name."""

from difflib import get_close_matches

from crosshead.rivals.agent import AgentAttention
from crosshead.rivals.axial import AxialBlock
from crosshead.rivals.channel import CrossCovarianceAttention
from crosshead.rivals.cross_head import TalkingHeads
from crosshead.rivals.differential import DifferentialAttention
from crosshead.rivals.head_maps import InterleavedHeads, ReAttention
from crosshead.rivals.landmark import AgentTalkingHeads, NystromAttention
from crosshead.rivals.layer import Capabilities, Mechanism, Rival
from crosshead.rivals.linear import EfficientAttention, HydraAttention
from crosshead.rivals.low_rank import LinformerAttention
from crosshead.rivals.multi_resolution import MultiResolutionAttention
from crosshead.rivals.random_features import PerformerAttention
from crosshead.rivals.relu_linear import ReluLinearAttention
from crosshead.rivals.reweighted import CosFormer, FocusedLinearAttention
from crosshead.rivals.role_guided import RoleGuidedAttention
from crosshead.rivals.softmax import SoftmaxAttention

MECHANISMS: dict[str, type[Rival]] = {
    "softmax": SoftmaxAttention,
    "talking-heads": TalkingHeads,
    "re-attention": ReAttention,
    "interleaved-heads": InterleavedHeads,
    "differential": DifferentialAttention,
    "linformer": LinformerAttention,
    "performer": PerformerAttention,
    "nystromformer": NystromAttention,
    "agent": AgentAttention,
    "agent-talking-heads": AgentTalkingHeads,
    "efficient": EfficientAttention,
    "hydra": HydraAttention,
    "cosformer": CosFormer,
    "focused-linear": FocusedLinearAttention,
    "xca": CrossCovarianceAttention,
    "efficientvit": ReluLinearAttention,
    "role-guided": RoleGuidedAttention,
    "adamra": MultiResolutionAttention,
    "globalmind": AxialBlock,
}

# What the rivals are held against, for tables; its layer is `crosshead.InteractiveAttention`.
INTERACTIVE = Mechanism(
    title="interactive attention",
    paper="Kang et al. 2024, arXiv 2402.17507",
    complexity="N L (C + H^2)",
    source="crosshead InteractiveAttention",
    heads_talk=True,
    capabilities=Capabilities(key_mask=True, any_grid=True, any_length=True, linear=True),
)


def attention_class(name: str) -> type[Rival]:
    """The class of the rival `name`.

    Raises:
        ValueError: no rival has that name.

    Example:
        >>> attention_class("nystromformer").mechanism.complexity
        'N L C + H L^3'
    """
    if name in MECHANISMS:
        return MECHANISMS[name]
    near = get_close_matches(name, MECHANISMS)
    guess = f"did you mean {' or '.join(near)}? " if near else ""
    raise ValueError(f"name must be that of a rival; got {name!r}: {guess}There are {', '.join(MECHANISMS)}")
