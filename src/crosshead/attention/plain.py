"""Whether a layer computes just what its class and weights say, so that a shortcut may replace its call."""

from torch import Tensor, nn
from torch.nn.modules import module as hooks
from torch.utils._python_dispatch import is_traceable_wrapper_subclass
from torch.utils.module_tracker import ModuleTracker


def is_plain(layer: nn.Module, kind: type[nn.Module]) -> bool:
    """Whether calling `layer` computes what `kind` does from its parameters, and nothing watches the call.

    What this rules out: another class is an adapter, a quantised layer, a parametrisation or FSDP; a
    `forward` set on the instance is offloading; hooks are old spectral and weight norms, pruning, tensor
    parallelism and observers; parameters that wrap other tensors are sharded or quantised.
    """
    return (
        type(layer) is kind
        and "forward" not in layer.__dict__
        and not layer._forward_pre_hooks
        and not layer._forward_hooks
        and not layer._backward_pre_hooks
        and not layer._backward_hooks
        and not any(map(_wraps, layer._parameters.values()))
    )


def has_hooks_on_every_module() -> bool:
    """Whether hooks run on the calls of all modules; torch's FLOP counter, which only counts, is left out."""
    if not hooks._has_any_global_hook():
        return False
    everywhere = (
        *hooks._global_forward_pre_hooks.values(),
        *hooks._global_forward_hooks.values(),
        *hooks._global_backward_pre_hooks.values(),
        *hooks._global_backward_hooks.values(),
    )
    return not all(isinstance(getattr(hook, "__self__", None), ModuleTracker) for hook in everywhere)


def _wraps(parameter: Tensor | None) -> bool:
    return type(parameter) is not nn.Parameter and is_traceable_wrapper_subclass(parameter)
