"""Reading a study file: checked YAML that remembers the line of each key."""

import io
from collections.abc import Hashable
from pathlib import Path
from typing import Any

import yaml

from dsstudy.errors import InputError, one_line, quoted

STUDY_KEYS = ("title", "defaults", "matrix", "overrides")

_EXAMPLE = "parameters/demo.yaml"

LONGEST_FILE = 100_000
"""The largest number of characters in a study file; PyYAML takes a second for so many."""


class Lines(dict):
    """A mapping read from YAML that knows the line of each key."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: dict[Any, int] = {}


class _Loader(yaml.SafeLoader):
    """The safe subset of YAML with line numbers; duplicate keys are refused.

    It is the loader in Python: libyaml's is faster, but deep nesting crashes it.
    """


def _mapping(loader: _Loader, node: yaml.MappingNode) -> Lines:
    mapping = Lines()
    for key_node, value_node in node.value:
        key, line = loader.construct_object(key_node), key_node.start_mark.line + 1
        place = f"{node.start_mark.name}:{line}"
        if not isinstance(key, Hashable):
            raise InputError(f"{place}: {quoted(key)} cannot be a key: write a name")
        if key in mapping:
            raise InputError(f"{place}: {quoted(key)} occurs twice: remove one")
        mapping[key] = loader.construct_object(value_node, deep=True)
        mapping.lines[key] = line
    return mapping


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_yaml(file: Path) -> Lines:
    """Read a study file and check that each of its parts has the right type.

    Raises
    ------
    InputError
        The sentence names the file, and the line and the key if there are any.
    """
    where = one_line(file)
    try:
        with file.open(encoding="utf-8") as stream:
            text = stream.read(LONGEST_FILE + 1)
    except OSError as error:
        raise InputError(
            f"{where} cannot be read ({error.strerror}): give a study file like {_EXAMPLE}"
        ) from None
    except ValueError as error:
        raise InputError(f"{where} is not YAML: {quoted(error)}") from None
    if len(text) > LONGEST_FILE:
        raise InputError(
            f"{where} has more than {LONGEST_FILE:,} characters: shorten its lists, or give a "
            f"study file like {_EXAMPLE}"
        )
    content = _parsed(text, where)
    if not isinstance(content, Lines):
        raise InputError(f"{where} holds no study: set the keys {', '.join(STUDY_KEYS)}")
    for key in content:
        if key not in STUDY_KEYS:
            raise InputError(
                f"{where}:{content.lines[key]}: {quoted(key)} is not a key of a study: use "
                f"{', '.join(STUDY_KEYS)}"
            )
    if not content.get("matrix"):
        raise InputError(f"{where} has no matrix: list what varies, for example engine: [normal]")
    title = content.get("title", "none")
    if not isinstance(title, str) or len(title.strip().splitlines()) != 1:
        raise InputError(f"{where}:{content.lines['title']}: title must be one line of text")
    for key, kind in (("defaults", Lines), ("matrix", Lines), ("overrides", list)):
        given = content.get(key) or kind()
        several = key == "matrix" and isinstance(given, list)
        if not all(isinstance(one, kind) for one in (given if several else [given])):
            what = "a list of when and set" if kind is list else "names with values"
            raise InputError(f"{where}:{content.lines[key]}: {key} must hold {what}")
    return content


def _parsed(text: str, where: str) -> Any:
    stream = io.StringIO(text)
    stream.name = where  # type: ignore[misc]  # PyYAML's messages name it
    try:
        return yaml.load(stream, _Loader)
    except InputError:
        raise
    except Exception as error:  # also the errors of int() and datetime(), and RecursionError
        reason = one_line(" ".join(str(error).split()))
        raise InputError(f"{where} is not YAML: {reason[:500]}") from None
