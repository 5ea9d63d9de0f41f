"""The weights of a run, in a folder of their own."""

from typing import Any

from safetensors.torch import save as serialize
from torch import Tensor, nn

from crosshead.runs.folder import RunFolder, write_atomically, write_json


def save_model(
    run: RunFolder, config: dict[str, Any], state: dict[str, Tensor], *, note: dict[str, Any]
) -> None:
    """Writes `model/`.

    Args:
        run: the run.
        config: what config.json says about the net.
        state: its weights.
        note: what else to remember: the epoch, and whether the weights are an average.
    """
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in state.items()}
    write_json(run.config, {**config, "crosshead": {**config.get("crosshead", {}), **note}})
    write_atomically(run.weights, serialize(weights, metadata={"format": "pt"}))


def count_parameters(model: nn.Module) -> int:
    """Number of parameters.

    Example:
        >>> count_parameters(nn.Linear(3, 2))
        8
    """
    return sum(parameter.numel() for parameter in model.parameters())
