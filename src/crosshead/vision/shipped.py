"""Trained models that come with the package, each in the form of a run: `recipe.json` and `model/`."""

import json
from pathlib import Path
from typing import Any

TRAINED = Path(__file__).parent / "trained"


def shipped_models() -> dict[str, Path]:
    """The folders of the trained models in the package, by name.

    `ivit_pico.fashion_mnist`, which timm knows too, and `swapped_vit.fashion_mnist`, a ViT whose tokens meet
    in interactive attention alone.

    Example:
        >>> [*shipped_models()]
        ['ivit_pico.fashion_mnist', 'swapped_vit.fashion_mnist']
    """
    return {path.name: path for path in sorted(TRAINED.iterdir()) if path.is_dir()}


def shipped_cfgs() -> dict[str, dict[str, Any]]:
    """What timm has to know about those of our own design: where weights are, what they were trained on."""
    found = {}
    for name, folder in shipped_models().items():
        config = json.loads((folder / "model" / "config.json").read_text("utf-8"))
        if not name.startswith(f"{config['architecture']}."):
            continue
        found[name] = {
            **config["pretrained_cfg"],
            "url": "",
            "file": str(folder / "model" / "model.safetensors"),
            "num_classes": config["num_classes"],
            "label_names": config["label_names"],
            "license": "apache-2.0",
        }
    return found
