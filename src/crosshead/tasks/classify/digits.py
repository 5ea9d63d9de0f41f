from typing import Any

import numpy as np

from crosshead.tasks.classify.image_array import ImageArray
from crosshead.tasks.splits import ImageSplits
from crosshead.tasks.stratified import stratified_split


def load_digits() -> ImageSplits:
    """Load the 1,797 handwritten digits of 8 x 8 pixels that ship with scikit-learn.

    They are the test part of the UCI "Optical Recognition of Handwritten Digits" set, without a split of
    their own: a fixed fifth of each class is held out. The grey values 0..16 are stretched to 0..255.

    Returns:
        1,438 images to train on and 359 to test on, grey, ten classes.

    Raises:
        ImportError: When scikit-learn is not installed.

    Example:
        >>> splits = load_digits()
        >>> len(splits.train), len(splits.test), splits.image_size
        (1438, 359, 8)
    """
    try:
        from sklearn import datasets
    except ImportError as error:
        raise ImportError(
            "the digits ship with scikit-learn, which is not installed: pip install crosshead[train]"
        ) from error

    bundle: Any = datasets.load_digits()
    images = np.rint(bundle.images * (255 / 16)).astype(np.uint8)
    labels = bundle.target
    train, test = stratified_split(labels)
    return ImageSplits(
        train=ImageArray(images[train], labels[train]),
        test=ImageArray(images[test], labels[test]),
        classes=tuple(str(name) for name in bundle.target_names),
        in_chans=1,
        image_size=8,
        mean=(float(images[train].mean() / 255),),
        std=(float(images[train].std() / 255),),
    )
