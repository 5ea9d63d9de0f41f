"""How much of the labels is in features: nearest neighbours, and a linear classifier on frozen features."""

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import Normalizer, StandardScaler

NEIGHBOURS = 20


def knn_accuracy(
    bank: np.ndarray, bank_labels: np.ndarray, features: np.ndarray, labels: np.ndarray
) -> float:
    """Accuracy of the class that prevails among the 20 nearest labelled features, by cosine.

    Args:
        bank: labelled features, (M, C).
        bank_labels: their labels, (M,).
        features: what to classify, (N, C).
        labels: the true labels, (N,).

    Example:
        >>> bank, labels = np.eye(2).repeat(30, 0), np.arange(2).repeat(30)
        >>> knn_accuracy(bank, labels, bank[::10], labels[::10])
        1.0
    """
    neighbours = KNeighborsClassifier(min(NEIGHBOURS, len(bank)), weights="distance")
    return float(make_pipeline(Normalizer(), neighbours).fit(bank, bank_labels).score(features, labels))


def linear_accuracy(
    bank: np.ndarray, bank_labels: np.ndarray, features: np.ndarray, labels: np.ndarray
) -> float:
    """Accuracy of a logistic regression on standardised features; arguments as for `knn_accuracy`.

    Example:
        >>> bank, labels = np.eye(2).repeat(30, 0), np.arange(2).repeat(30)
        >>> linear_accuracy(bank, labels, bank[::10], labels[::10])
        1.0
    """
    regression = make_pipeline(StandardScaler(), LogisticRegression(C=0.01, max_iter=500))
    return float(regression.fit(bank, bank_labels).score(features, labels))
