"""What a learned detector of change has to beat: the length of the spectral change vector."""

import numpy as np


def spectral_difference(before: np.ndarray, after: np.ndarray) -> np.ndarray:
    """The length of the spectral change vector of each pixel.

        |z_after - z_before|,   z = (channel - mean) / standard deviation, of each channel at each date

    Mean and standard deviation are those of the whole image, so the measure is transductive, but it uses no
    label and has no parameter. A threshold on it is change vector analysis.

    Args:
        before: (channels, height, width), finite numbers.
        after: the same shape.

    Returns:
        float64, (height, width), 0 or more; large where much has changed. A constant channel counts for
        nothing.

    Raises:
        ValueError: if the shapes differ or are not three-dimensional.

    Source: W. A. Malila, "Change vector analysis: an approach for detecting forest changes with Landsat",
    1980; here on standardised channels.

    Example:
        >>> before = np.array([[[1, 1, 3, 3]]])
        >>> spectral_difference(before, 10 * before + 5), spectral_difference(before, before[..., ::-1])
        (array([[0., 0., 0., 0.]]), array([[2., 2., 2., 2.]]))
    """
    if before.ndim != 3 or before.shape != after.shape:
        raise ValueError(
            "before and after must be one and the same (channels, height, width); got "
            f"{before.shape} and {after.shape}"
        )
    return np.sqrt(np.square(_standardised(after) - _standardised(before)).sum(axis=0))


def _standardised(image: np.ndarray) -> np.ndarray:
    values = image.astype(np.float64)
    centred = values - values.mean(axis=(1, 2), keepdims=True)
    spread = centred.std(axis=(1, 2), keepdims=True)
    return centred / np.where(spread > 0, spread, 1.0)
