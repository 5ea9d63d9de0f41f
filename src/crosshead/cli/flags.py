"""From functions and dataclasses to flags: tyro reads them, and here their help is made readable.

tyro ends a line of help wherever one of the source begins with anything but a letter, and writes None as a
value. So each text is handed to it as one line, and what is None by default has the text to say so.
"""

import dataclasses
import inspect
import shutil
import textwrap
from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, TypeVar, get_type_hints

import docstring_parser
import tyro

from crosshead.cli.arguments import REGISTRY

T = TypeVar("T")

MARKERS = (tyro.conf.AvoidSubcommands, tyro.conf.OmitArgPrefixes)


def parse(target: Callable[..., T], arguments: Sequence[str], *, prog: str, about: str | None = None) -> T:
    """Calls a function, or makes a dataclass, with what the command line says.

    Args:
        target: a function, or a dataclass made by `form_of`.
        arguments: the command line after `prog`.
        prog: the command, as help names it.
        about: what help says of it; by default the text of the docstring.
    """
    about = description_of(target) if about is None else about
    if about and {"-h", "--help"} & set(arguments):
        print(paragraphs(about), end="\n\n", flush=True)
    options: Any = {"prog": prog, "description": "", "registry": REGISTRY, "config": MARKERS}
    if isinstance(target, type):
        return tyro.cli(target, args=arguments, **options)
    if not {"-h", "--help"} & set(arguments):
        # tyro stops where a word is missing, before it comes to a flag that is misspelt.
        tyro.cli(_needing_nothing(target), args=arguments, **options)
    return tyro.cli(_readable(target), args=arguments, **options)


def form_of(
    kind: type[T], *, default: T | None = None, topics: Mapping[str, str] | None = None, rest: str = ""
) -> tuple[type, Callable[[Any], T]]:
    """A dataclass whose help is readable and whose flags stand in groups.

    Args:
        kind: a dataclass.
        default: what the flags are by default; by default that of each field.
        topics: the group of each field; without it they stand together.
        rest: the group of the fields that `topics` does not name.

    Returns:
        The dataclass for tyro, and what makes a `kind` of it.
    """
    helps, hints = helps_of(kind), get_type_hints(kind, include_extras=True)
    groups: dict[str, list[tuple[str, Any, Any]]] = {topic: [] for topic in [*(topics or {}).values(), rest]}
    for field in dataclasses.fields(kind):  # pyright: ignore[reportArgumentType]
        value = _default_of(field) if default is None else getattr(default, field.name)
        hint = _annotated(hints[field.name], helps.get(field.name, ""), value)
        topic = rest if topics is None else topics.get(field.name, rest)
        groups[topic].append((field.name, hint, _field(value)))
    if topics is None:
        form = dataclasses.make_dataclass("Form", groups[rest], kw_only=True)
        return form, lambda found: kind(**vars(found))
    quiet = tyro.conf.arg(help="")
    parts = [
        (
            topic,
            Annotated[part := dataclasses.make_dataclass(topic, fields, kw_only=True), quiet],
            dataclasses.field(default_factory=part),
        )
        for topic, fields in groups.items()
        if fields
    ]
    form = dataclasses.make_dataclass("Form", parts, kw_only=True)

    def made(found: Any) -> T:
        values = {name: value for topic, _, _ in parts for name, value in vars(getattr(found, topic)).items()}
        return kind(**values) if default is None else dataclasses.replace(default, **values)  # pyright: ignore

    return form, made


def helps_of(target: Any) -> dict[str, str]:
    """The help of each argument of a function or field of a dataclass, each in one line.

    Example:
        >>> helps_of(parse)["prog"]
        'the command, as help names it.'
    """
    helps: dict[str, str] = {}
    for source in reversed(target.__mro__[:-1]) if isinstance(target, type) else [target]:
        for entry in docstring_parser.parse_from_object(source).params:
            if entry.description:
                helps[entry.arg_name] = " ".join(entry.description.split())
    return helps


def description_of(target: Any) -> str:
    """What the docstring of a function or class says before its arguments."""
    return docstring_parser.parse(target.__doc__ or "").description or ""


def summary_of(target: Any) -> str:
    """The first sentence of a docstring, in one line.

    Example:
        >>> summary_of(form_of)
        'A dataclass whose help is readable and whose flags stand in groups.'
    """
    return " ".join((docstring_parser.parse(target.__doc__ or "").short_description or "").split())


def paragraphs(text: str, *, indent: str = "") -> str:
    """Paragraphs wrapped to the terminal, at most 100 columns wide; commands in backquotes stay whole."""
    width = min(shutil.get_terminal_size().columns, 100)
    return "\n\n".join(
        textwrap.fill(
            " ".join(paragraph.split()),
            width,
            initial_indent=indent,
            subsequent_indent=indent,
            break_on_hyphens=False,
            break_long_words=False,
        )
        for paragraph in text.split("\n\n")
    )


def _readable(function: Callable[..., T]) -> Callable[..., T]:
    """The function with its help in annotations, each text in one line."""

    def call(*arguments: Any, **options: Any) -> T:
        return function(*arguments, **options)

    helps, hints = helps_of(function), get_type_hints(function, include_extras=True)
    return _taking(
        [
            parameter.replace(annotation=_annotated(hints[name], helps.get(name, ""), parameter.default))
            for name, parameter in inspect.signature(function).parameters.items()
        ],
        call,
    )


def _needing_nothing(function: Callable[..., object]) -> Callable[..., None]:
    """A function of the same arguments that may do without each of them, and does nothing."""

    def call(*_arguments: Any, **_options: Any) -> None:
        pass

    def optional(parameter: inspect.Parameter) -> inspect.Parameter:
        if parameter.default is not parameter.empty:
            return parameter
        return parameter.replace(annotation=Annotated[str, *parameter.annotation.__metadata__], default="")

    parameters = inspect.signature(_readable(function)).parameters.values()
    return _taking([optional(parameter) for parameter in parameters], call)


def _taking(parameters: Sequence[inspect.Parameter], call: Callable[..., T]) -> Callable[..., T]:
    """The function `call`, which takes anything, with these parameters for its own."""
    call.__signature__ = inspect.Signature(parameters)  # pyright: ignore
    call.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return call


def _annotated(hint: Any, text: str, default: Any) -> Any:
    marks: list[Any] = [tyro.conf.arg(help=text)]
    if default is None:
        marks = [tyro.conf.arg(help=text, help_behavior_hint=""), tyro.conf.DisallowNone]
    elif default in ("", (), {}):
        marks = [tyro.conf.arg(help=text, help_behavior_hint="")]
    return Annotated[hint, *marks]


def _default_of(field: dataclasses.Field) -> Any:
    if field.default_factory is not dataclasses.MISSING:
        return field.default_factory()
    return field.default


def _field(value: Any) -> Any:
    """A field with that default, which may be a dictionary."""
    if value is dataclasses.MISSING:
        return dataclasses.field()
    return dataclasses.field(default_factory=lambda: value)
