import io
import pickle
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from crosshead.tasks.classify.image_array import check_labels
from crosshead.tasks.task import DataError

_SIDE = 32
_BANDS = 3


def read_cifar_batch(path: Path, *, num_classes: int = 10) -> tuple[np.ndarray, np.ndarray]:
    """Read one batch of CIFAR-10's Python version, a pickle, without running anything that it may contain.

    Args:
        path: The file, such as cifar-10-batches-py/data_batch_1.
        num_classes: Labels must lie in 0..num_classes - 1.

    Returns:
        The images, uint8 (N, 32, 32, 3), and their labels, int64 (N,).

    Raises:
        DataError: When the file is missing, is no pickle, asks for anything but bytes, numbers, lists, dicts
            and arrays of unsigned bytes, or holds no such images and labels.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "data_batch_1"
        >>> batch = {"data": np.zeros((2, 3072), np.uint8), "labels": [3, 5]}
        >>> _ = path.write_bytes(pickle.dumps(batch))
        >>> images, labels = read_cifar_batch(path)
        >>> images.shape, labels.tolist()
        ((2, 32, 32, 3), [3, 5])
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise DataError(
            f"{path}: cannot be read ({error.strerror}); get the six batch files again"
        ) from error
    try:
        batch = _BatchUnpickler(io.BytesIO(content), encoding="bytes").load()
    # A damaged or hostile pickle can make its reader raise anything.
    except Exception as error:
        raise DataError(
            f"{path}: not a CIFAR-10 batch ({str(error) or type(error).__name__}); "
            "get the file again from its publisher"
        ) from error

    # The keys are bytes as published (by Python 2), strings where Python 3 has written the batch anew.
    fields = batch if isinstance(batch, dict) else {}
    pixels, labels = (fields.get(name.encode(), fields.get(name)) for name in ("data", "labels"))
    if not isinstance(pixels, _Bytes) or not isinstance(labels, list):
        raise DataError(
            f"{path}: a CIFAR-10 batch holds 'data', an array, and 'labels', a list; get the file again"
        )
    images = pixels.array(path)
    if not all(isinstance(label, int) for label in labels):
        raise DataError(f"{path}: labels must be whole numbers; get the file again")
    if len(images) != len(labels) or not labels:
        raise DataError(f"{path}: {len(images)} images and {len(labels)} labels; get the file again")
    check_labels(np.asarray(labels), num_classes=num_classes, path=path)
    return images, np.asarray(labels, dtype=np.int64)


@dataclass
class _Bytes:
    """What a pickled array of unsigned bytes says of itself: it stands in for the array while reading.

    NumPy's own reconstruction trusts the pickle's description of its memory; this one never calls it.
    """

    shape: object = None
    content: object = None
    fortran: bool = False

    def __setstate__(self, state: tuple) -> None:
        _version, self.shape, dtype, self.fortran, self.content = state
        if not isinstance(dtype, _UnsignedByte):
            raise pickle.UnpicklingError("an array of something else than unsigned bytes")

    def array(self, path: Path) -> np.ndarray:
        size = _BANDS * _SIDE * _SIDE
        content = self.content if isinstance(self.content, bytes | bytearray) else b""
        shape = (len(content) // size, size)
        if self.shape != shape or len(content) % size:
            raise DataError(f"{path}: 'data' of shape {self.shape}, not N x {size}; get the file again")
        rows = np.frombuffer(content, np.uint8).reshape(shape, order="F" if self.fortran else "C")
        return np.ascontiguousarray(rows.reshape(-1, _BANDS, _SIDE, _SIDE).transpose(0, 2, 3, 1))


class _UnsignedByte:
    """Stands in for the one dtype that is admitted."""

    def __setstate__(self, state: tuple) -> None:
        """Byte order and alignment, which unsigned bytes do not have."""


def _load_bytearray(unpickler: Any) -> None:
    """Reads before it allocates, for the length that a damaged file claims may be any."""
    unpickler.append(bytearray(unpickler.read(int.from_bytes(unpickler.read(8), "little"))))


class _BatchUnpickler(pickle._Unpickler):
    """Admits the names by which NumPy pickles arrays, and answers them with stand-ins that only hold data.

    It is the reader written in Python: the one in C grows its memo to whatever index a damaged file names,
    which may take all the memory there is.
    """

    dispatch: ClassVar[dict] = {**pickle._Unpickler.dispatch, pickle.BYTEARRAY8[0]: _load_bytearray}

    def find_class(self, module: str, name: str, /) -> object:
        match module, name:
            case (("numpy.core.multiarray" | "numpy._core.multiarray"), "_reconstruct"):
                return _reconstruct
            case (("numpy.core.numeric" | "numpy._core.numeric"), "_frombuffer"):
                return _frombuffer
            case "numpy", "ndarray":
                return "numpy.ndarray"
            case "numpy", "dtype":
                return _dtype
            case "_codecs", "encode":
                return _encode
        raise pickle.UnpicklingError(
            f"it asks to run {module}.{name}, which no batch needs: it may be hostile"
        )


def _reconstruct(kind: object, shape: object, typecode: object) -> _Bytes:
    return _Bytes()


def _frombuffer(content: object, dtype: object, shape: object, order: object) -> _Bytes:
    if not isinstance(dtype, _UnsignedByte):
        raise pickle.UnpicklingError("an array of something else than unsigned bytes")
    return _Bytes(shape, content, order == "F")


def _dtype(name: object, *_flags: object) -> _UnsignedByte:
    if name not in ("u1", b"u1"):
        raise pickle.UnpicklingError(f"an array of dtype {name!r}, not of unsigned bytes")
    return _UnsignedByte()


def _encode(text: str, encoding: str) -> bytes:
    """How protocol 2 writes bytes under Python 3."""
    if encoding != "latin1":
        raise pickle.UnpicklingError(f"bytes in encoding {encoding!r}")
    return text.encode("latin1")
