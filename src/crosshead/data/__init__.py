"""Data sets: one face for each source, each giving the same `ImageSplits`, or `SequenceSplits` for sequences.

The names below are loaded when first used, so that importing the package does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from crosshead.data.splits import DataError, ImageSplits

if TYPE_CHECKING:
    from crosshead.data.audit import audit_folder
    from crosshead.data.cifar10 import load_cifar10
    from crosshead.data.digits import load_digits
    from crosshead.data.fashion_mnist import load_fashion_mnist
    from crosshead.data.folder import load_folder
    from crosshead.data.image_files import read_image
    from crosshead.data.imagenet1k import load_imagenet1k
    from crosshead.data.list_ops import SequenceSplits, evaluate_list_ops, load_list_ops
    from crosshead.data.pathfinder import load_pathfinder

_HOME = {
    "SequenceSplits": "crosshead.data.list_ops",
    "audit_folder": "crosshead.data.audit",
    "evaluate_list_ops": "crosshead.data.list_ops",
    "load_cifar10": "crosshead.data.cifar10",
    "load_digits": "crosshead.data.digits",
    "load_fashion_mnist": "crosshead.data.fashion_mnist",
    "load_folder": "crosshead.data.folder",
    "load_imagenet1k": "crosshead.data.imagenet1k",
    "load_list_ops": "crosshead.data.list_ops",
    "load_pathfinder": "crosshead.data.pathfinder",
    "read_image": "crosshead.data.image_files",
}

__all__ = [
    "DataError",
    "ImageSplits",
    "SequenceSplits",
    "audit_folder",
    "evaluate_list_ops",
    "load_cifar10",
    "load_digits",
    "load_fashion_mnist",
    "load_folder",
    "load_imagenet1k",
    "load_list_ops",
    "load_pathfinder",
    "read_image",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    raise AttributeError(f"module 'crosshead.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
