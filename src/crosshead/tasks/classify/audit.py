import hashlib
from collections.abc import Iterator
from pathlib import Path

from crosshead.tasks.classify.class_tree import differences, read_class_tree
from crosshead.tasks.images import read_image
from crosshead.tasks.layout import find_splits
from crosshead.tasks.task import DataError


def audit_folder(data_dir: str | Path | None) -> Iterator[str]:
    """Walk a whole folder of images and list everything that is wrong with it.

    Where `load_folder` stops at the first fault and decodes a few images, this goes on and decodes them all.

    Args:
        data_dir: As in `load_folder`.

    Yields:
        One line for each fault, as soon as it is found: what is wrong with the layout, files that are
        ignored, unreadable images, and images that are there twice (which may be in both splits).

    Example:
        >>> list(audit_folder("no/such/folder"))
        ['no/such/folder: no such folder; give data_dir a folder that exists']
    """
    try:
        train_root, test_root = find_splits(data_dir)
        trees = [read_class_tree(root) for root in (train_root, test_root) if root is not None]
    except DataError as error:
        yield str(error)
        return

    for tree in trees:
        yield from tree.findings(minimum=2 if test_root is None else 1)
    if len(trees) == 2:
        yield from differences(*trees)
    for path in (path for tree in trees for path in tree.ignored):
        yield (
            f"{path}: ignored: no image by its extension, or outside the class folders; move it into one, or "
            "leave it out"
        )

    seen: dict[bytes, str] = {}
    for path in (path for tree in trees for path in tree.samples()[0]):
        try:
            read_image(path)
        except DataError as error:
            yield str(error)
            continue
        digest = hashlib.blake2b(Path(path).read_bytes(), digest_size=16).digest()
        first = seen.setdefault(digest, path)
        if first != path:
            yield f"{path}: byte for byte the same as {first}; leave one of them out"
