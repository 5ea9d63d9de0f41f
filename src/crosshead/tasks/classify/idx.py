import gzip
import math
import zlib
from pathlib import Path

import numpy as np

from crosshead.tasks.task import DataError

_GZIP_MAGIC = b"\x1f\x8b"
_UNSIGNED_BYTE = 0x08


def read_idx(path: Path, *, ndim: int) -> np.ndarray:
    """Read an array of unsigned bytes from an idx file, the format of MNIST and its successors.

    The file may be gzipped or not, whatever its name says.

    Source of the format: Y. LeCun, C. Cortes, C. Burges, "The MNIST database of handwritten digits".

    Args:
        path: The file.
        ndim: The number of axes that the file must have: 3 for images, 1 for labels.

    Returns:
        uint8 with `ndim` axes; read-only.

    Raises:
        DataError: When the file cannot be read, has another magic number, or holds fewer or more bytes than
            its header announces.

    Example:
        >>> import tempfile
        >>> path = Path(tempfile.mkdtemp()) / "labels-idx1-ubyte"
        >>> _ = path.write_bytes(b"\\x00\\x00\\x08\\x01" + b"\\x00\\x00\\x00\\x03" + b"\\x07\\x01\\x02")
        >>> read_idx(path, ndim=1)
        array([7, 1, 2], dtype=uint8)
    """
    try:
        content = path.read_bytes()
        if content.startswith(_GZIP_MAGIC):
            content = gzip.decompress(content)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path}: damaged or truncated gzip ({error}); get the file again") from error
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error

    magic = bytes([0, 0, _UNSIGNED_BYTE, ndim])
    if content[:4] != magic:
        raise DataError(
            f"{path}: magic number 0x{content[:4].hex()}, and an idx file of unsigned bytes with {ndim} axes "
            f"starts with 0x{magic.hex()}; put the published file in its place"
        )
    start = 4 + 4 * ndim
    if len(content) < start:
        raise DataError(f"{path}: ends within its header of {start} bytes; get the file again")
    shape = tuple(int(side) for side in np.frombuffer(content, dtype=">u4", count=ndim, offset=4))
    if len(content) - start != math.prod(shape):
        raise DataError(
            f"{path}: the header announces {' x '.join(map(str, shape))} = {math.prod(shape)} bytes and "
            f"{len(content) - start} follow; get the file again"
        )
    return np.frombuffer(content, dtype=np.uint8, offset=start).reshape(shape)
