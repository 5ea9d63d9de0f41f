"""Data sets: one face for each source, each giving the splits of its kind: `ImageSplits` to classify,
`SequenceSplits`, `DetectionSplits`, `SegmentationSplits` or `ImagePairs`.

The names below are loaded when first used, so that importing the package does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from crosshead.data.splits import DataError, ImageSplits

if TYPE_CHECKING:
    from crosshead.data.audit import audit_folder
    from crosshead.data.cifar10 import load_cifar10
    from crosshead.data.coco.check import check_coco
    from crosshead.data.coco.objects import load_coco
    from crosshead.data.dense_splits import DetectionSplits, Objects, SegmentationSplits
    from crosshead.data.digits import load_digits
    from crosshead.data.fashion_mnist import load_fashion_mnist
    from crosshead.data.folder import load_folder
    from crosshead.data.image_files import read_image
    from crosshead.data.imagenet1k import load_imagenet1k
    from crosshead.data.labels.check import check_label_images
    from crosshead.data.labels.images import load_label_images
    from crosshead.data.labels.semantic import semantic_from_coco
    from crosshead.data.list_ops.sequences import SequenceSplits, evaluate_list_ops, load_list_ops
    from crosshead.data.pairs.baseline import spectral_difference
    from crosshead.data.pairs.crops import PairCrops
    from crosshead.data.pairs.held_out import block_folds, fold_labels, pair_folds
    from crosshead.data.pairs.images import ImagePair, ImagePairs, check_image_pairs, load_image_pairs
    from crosshead.data.pairs.landsat import check_landsat, load_landsat
    from crosshead.data.pairs.standardisation import BandStatistics, band_statistics
    from crosshead.data.pairs.tiles import PairTiles
    from crosshead.data.pathfinder.images import load_pathfinder
    from crosshead.data.scenes.fashion import load_fashion_scene_labels, load_fashion_scenes

_HOME = {
    "BandStatistics": "crosshead.data.pairs.standardisation",
    "DetectionSplits": "crosshead.data.dense_splits",
    "ImagePair": "crosshead.data.pairs.images",
    "ImagePairs": "crosshead.data.pairs.images",
    "Objects": "crosshead.data.dense_splits",
    "PairCrops": "crosshead.data.pairs.crops",
    "PairTiles": "crosshead.data.pairs.tiles",
    "SegmentationSplits": "crosshead.data.dense_splits",
    "SequenceSplits": "crosshead.data.list_ops.sequences",
    "audit_folder": "crosshead.data.audit",
    "band_statistics": "crosshead.data.pairs.standardisation",
    "block_folds": "crosshead.data.pairs.held_out",
    "check_coco": "crosshead.data.coco.check",
    "check_image_pairs": "crosshead.data.pairs.images",
    "check_label_images": "crosshead.data.labels.check",
    "check_landsat": "crosshead.data.pairs.landsat",
    "evaluate_list_ops": "crosshead.data.list_ops.sequences",
    "fold_labels": "crosshead.data.pairs.held_out",
    "load_cifar10": "crosshead.data.cifar10",
    "load_coco": "crosshead.data.coco.objects",
    "load_digits": "crosshead.data.digits",
    "load_fashion_mnist": "crosshead.data.fashion_mnist",
    "load_fashion_scene_labels": "crosshead.data.scenes.fashion",
    "load_fashion_scenes": "crosshead.data.scenes.fashion",
    "load_folder": "crosshead.data.folder",
    "load_image_pairs": "crosshead.data.pairs.images",
    "load_imagenet1k": "crosshead.data.imagenet1k",
    "load_label_images": "crosshead.data.labels.images",
    "load_landsat": "crosshead.data.pairs.landsat",
    "load_list_ops": "crosshead.data.list_ops.sequences",
    "load_pathfinder": "crosshead.data.pathfinder.images",
    "pair_folds": "crosshead.data.pairs.held_out",
    "read_image": "crosshead.data.image_files",
    "semantic_from_coco": "crosshead.data.labels.semantic",
    "spectral_difference": "crosshead.data.pairs.baseline",
}

__all__ = [
    "BandStatistics",
    "DataError",
    "DetectionSplits",
    "ImagePair",
    "ImagePairs",
    "ImageSplits",
    "Objects",
    "PairCrops",
    "PairTiles",
    "SegmentationSplits",
    "SequenceSplits",
    "audit_folder",
    "band_statistics",
    "block_folds",
    "check_coco",
    "check_image_pairs",
    "check_label_images",
    "check_landsat",
    "evaluate_list_ops",
    "fold_labels",
    "load_cifar10",
    "load_coco",
    "load_digits",
    "load_fashion_mnist",
    "load_fashion_scene_labels",
    "load_fashion_scenes",
    "load_folder",
    "load_image_pairs",
    "load_imagenet1k",
    "load_label_images",
    "load_landsat",
    "load_list_ops",
    "load_pathfinder",
    "pair_folds",
    "read_image",
    "semantic_from_coco",
    "spectral_difference",
]


def __getattr__(name: str) -> object:
    if name in _HOME:
        value = globals()[name] = getattr(import_module(_HOME[name]), name)
        return value
    raise AttributeError(f"module 'crosshead.data' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
