from collections.abc import Iterator
from pathlib import Path

from crosshead.tasks.change.pairs.files import PairArrays, PairFiles, read_pair
from crosshead.tasks.change.pairs.images import CHANGE_CLASSES, ImagePair, ImagePairs
from crosshead.tasks.layout import existing_folder
from crosshead.tasks.task import DataError

# The bands of each file in the order of its channels, numbered as on the ETM+ sensor.
_GROUPS = {"b321": ("B3", "B2", "B1"), "b457": ("B4", "B5", "B7")}


def load_landsat(data_dir: str | Path | None) -> ImagePairs:
    """Load the Taizhou scene: Landsat 7 ETM+ at two dates, six bands of 30 m, labelled in part.

    Args:
        data_dir: A folder with `t1_b321.png`, `t1_b457.png`, `t2_b321.png`, `t2_b457.png` (three bands each,
            as the channels of an RGB image) and `label.png` (0 unlabelled, 1 unchanged, 2 changed).

    Returns:
        One pair, uint8, of six bands.

    Raises:
        DataError: With the first of the lines that `check_landsat` lists.

    Example:
        >>> load_landsat("no/such/folder")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: no/such/folder: no such folder; give data_dir a folder that exists
    """
    arrays, faults = _read(data_dir)
    if arrays is None:
        raise DataError(faults[0])
    pair = ImagePair(name="landsat", before=arrays.before, after=arrays.after, label=arrays.label)
    bands = tuple(band for group in _GROUPS.values() for band in group)
    return ImagePairs(pairs=(pair,), bands=bands, classes=CHANGE_CLASSES)


def check_landsat(data_dir: str | Path | None) -> Iterator[str]:
    """List everything that is wrong with a folder of this scene.

    Args:
        data_dir: As in `load_landsat`.

    Yields:
        One line for each fault, naming the file.

    Example:
        >>> list(check_landsat("no/such/folder"))
        ['no/such/folder: no such folder; give data_dir a folder that exists']
    """
    yield from _read(data_dir)[1]


def _read(data_dir: str | Path | None) -> tuple[PairArrays | None, list[str]]:
    try:
        root = existing_folder(data_dir)
    except DataError as error:
        return None, [str(error)]
    before, after = ({group: root / f"{date}_{group}.png" for group in _GROUPS} for date in ("t1", "t2"))
    files = PairFiles(name="landsat", before=before, after=after, label=root / "label.png")
    needed = [*before.values(), *after.values(), files.label]
    absent = [path for path in needed if not path.is_file()]
    if absent:
        names = ", ".join(path.name for path in needed)
        return None, [f"{path}: no such file; the folder needs {names}" for path in absent]
    arrays, faults = read_pair(files, num_classes=len(CHANGE_CLASSES))
    if arrays is None:
        return None, faults
    expected = tuple(f"{group}.{number}" for group in _GROUPS for number in (1, 2, 3))
    if arrays.bands != expected:
        return None, [
            f"{before['b321']}: {len(arrays.bands)} bands in the files of a date, not 6; save RGB images"
        ]
    return arrays, []
