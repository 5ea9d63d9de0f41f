"""Data sets: one face for each source, each giving the splits of its kind: `ImageSplits` to classify,
`SequenceSplits`, `DetectionSplits` or `SegmentationSplits`.

The names below are loaded when first used, so that importing the package does not wait for torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from crosshead.data.splits import DataError, ImageSplits

if TYPE_CHECKING:
    from crosshead.data.audit import audit_folder
    from crosshead.data.change_baseline import spectral_difference
    from crosshead.data.cifar10 import load_cifar10
    from crosshead.data.coco import load_coco
    from crosshead.data.coco_check import check_coco
    from crosshead.data.dense_splits import DetectionSplits, Objects, SegmentationSplits
    from crosshead.data.digits import load_digits
    from crosshead.data.fashion_mnist import load_fashion_mnist
    from crosshead.data.fashion_scenes import load_fashion_scene_labels, load_fashion_scenes
    from crosshead.data.folder import load_folder
    from crosshead.data.held_out import block_folds, fold_labels, pair_folds
    from crosshead.data.image_files import read_image
    from crosshead.data.image_pairs import ImagePair, ImagePairs, check_image_pairs, load_image_pairs
    from crosshead.data.imagenet1k import load_imagenet1k
    from crosshead.data.label_check import check_label_images
    from crosshead.data.label_images import load_label_images
    from crosshead.data.landsat import check_landsat, load_landsat
    from crosshead.data.list_ops import SequenceSplits, evaluate_list_ops, load_list_ops
    from crosshead.data.pair_crops import PairCrops
    from crosshead.data.pair_tiles import PairTiles
    from crosshead.data.pathfinder import load_pathfinder
    from crosshead.data.semantic import semantic_from_coco
    from crosshead.data.standardisation import BandStatistics, band_statistics

_HOME = {
    "BandStatistics": "crosshead.data.standardisation",
    "DetectionSplits": "crosshead.data.dense_splits",
    "ImagePair": "crosshead.data.image_pairs",
    "ImagePairs": "crosshead.data.image_pairs",
    "Objects": "crosshead.data.dense_splits",
    "PairCrops": "crosshead.data.pair_crops",
    "PairTiles": "crosshead.data.pair_tiles",
    "SegmentationSplits": "crosshead.data.dense_splits",
    "SequenceSplits": "crosshead.data.list_ops",
    "audit_folder": "crosshead.data.audit",
    "band_statistics": "crosshead.data.standardisation",
    "block_folds": "crosshead.data.held_out",
    "check_coco": "crosshead.data.coco_check",
    "check_image_pairs": "crosshead.data.image_pairs",
    "check_label_images": "crosshead.data.label_check",
    "check_landsat": "crosshead.data.landsat",
    "evaluate_list_ops": "crosshead.data.list_ops",
    "fold_labels": "crosshead.data.held_out",
    "load_cifar10": "crosshead.data.cifar10",
    "load_coco": "crosshead.data.coco",
    "load_digits": "crosshead.data.digits",
    "load_fashion_mnist": "crosshead.data.fashion_mnist",
    "load_fashion_scene_labels": "crosshead.data.fashion_scenes",
    "load_fashion_scenes": "crosshead.data.fashion_scenes",
    "load_folder": "crosshead.data.folder",
    "load_image_pairs": "crosshead.data.image_pairs",
    "load_imagenet1k": "crosshead.data.imagenet1k",
    "load_label_images": "crosshead.data.label_images",
    "load_landsat": "crosshead.data.landsat",
    "load_list_ops": "crosshead.data.list_ops",
    "load_pathfinder": "crosshead.data.pathfinder",
    "pair_folds": "crosshead.data.held_out",
    "read_image": "crosshead.data.image_files",
    "semantic_from_coco": "crosshead.data.semantic",
    "spectral_difference": "crosshead.data.change_baseline",
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
