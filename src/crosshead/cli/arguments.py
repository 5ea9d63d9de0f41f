"""How the command line reads what tyro does not read by itself."""

import ast
from pathlib import Path
from typing import Annotated, Any, get_origin

import tyro

RunArgument = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
ImageArgument = Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="IMAGE")]
ImageArguments = Annotated[tuple[Path, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[IMAGE ...]")]


def written_to(run: Path) -> Path:
    """The folder that takes what a command makes of a run, unless it is told another one.

    The run itself; the folder of an exported file; and where the command is given for a run on the Hub, or
    one that comes with the package.
    """
    if run.is_dir():
        return run
    return run.parent if run.exists() else Path()


def read_pairs(pairs: list[str]) -> dict[str, Any]:
    """`name=value` arguments, each value a Python literal where it looks like one and a text otherwise.

    Raises:
        ValueError: if an argument has no name or no `=`.

    Example:
        >>> read_pairs(["depths=[1, 2]", "mixing=none"])
        {'depths': (1, 2), 'mixing': 'none'}
    """
    values: dict[str, Any] = {}
    for pair in pairs:
        name, equals, text = pair.partition("=")
        if not (name.isidentifier() and equals):
            raise ValueError(f"{pair!r} must be name=value")
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError):
            value = text
        values[name] = tuple(value) if isinstance(value, list) else value
    return values


def _pairs_rule(
    info: tyro.constructors.PrimitiveTypeInfo,
) -> tyro.constructors.PrimitiveConstructorSpec | None:
    if get_origin(info.type) is not dict:
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*",
        metavar="NAME=VALUE ...",
        instance_from_str=read_pairs,
        is_instance=lambda value: isinstance(value, dict),
        str_from_instance=lambda value: [f"{name}={item}".replace(" ", "") for name, item in value.items()],
    )


REGISTRY = tyro.constructors.ConstructorRegistry()
REGISTRY.primitive_rule(_pairs_rule)
