"""XML files of annotation tools."""

from pathlib import Path
from xml.etree import ElementTree

from crosshead.tasks.task import DataError


def read_xml(path: Path, *, root: str) -> ElementTree.Element:
    """Reads an XML file.

    Args:
        path: the file.
        root: what its outermost element is called.

    Raises:
        DataError: if it cannot be read, is no XML, declares a document type (whose entities could grow
            without end), or has another outermost element.

    Example:
        >>> read_xml(Path("none.xml"), root="annotation")
        Traceback (most recent call last):
            ...
        crosshead.tasks.task.DataError: none.xml: cannot be read (No such file or directory); check the file
    """
    try:
        content = path.read_bytes()
        if b"<!DOCTYPE" in content or b"<!ENTITY" in content:
            raise DataError(
                f"{path}: declares a document type, which annotations do not need; export it again"
            )
        element = ElementTree.fromstring(content)
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}); check the file") from error
    except (ElementTree.ParseError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not XML ({error}); export it again") from error
    if element.tag != root:
        raise DataError(
            f"{path}: its outermost element is {element.tag[:40]!r}, not {root!r}; export it again"
        )
    return element


def number_of(element: ElementTree.Element, name: str) -> float:
    """A number that an element has as an attribute or as a child.

    Raises:
        ValueError: if there is none.

    Example:
        >>> number_of(ElementTree.fromstring('<box left="2.5"/>'), "left")
        2.5
    """
    text = element.get(name) or element.findtext(name)
    try:
        return float(text or "")
    except ValueError:
        raise ValueError(f"{name} is {text!r}; give a number") from None
