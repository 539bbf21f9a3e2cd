"""YAML as DVC reads it: version 1.2, in which 1e-4 is a number and `no` is a word."""

import re
from typing import Any

import yaml


class _Yaml12Loader(yaml.SafeLoader):
    """PyYAML reads version 1.1, where 1e-4 is text, 007 is octal and 2026-11-01 a date."""

    yaml_implicit_resolvers: dict = {}  # noqa: RUF012 (PyYAML's own protocol)


for _tag, _pattern, _first in (
    ("bool", r"true|True|TRUE|false|False|FALSE", "tTfF"),
    ("int", r"[-+]?(?:0|[1-9][0-9]*)", "-+0123456789"),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]*)(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?"
        r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)",
        "-+.0123456789",
    ),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("merge", r"<<", "<"),
):
    _Yaml12Loader.add_implicit_resolver(
        f"tag:yaml.org,2002:{_tag}", re.compile(rf"^(?:{_pattern})$"), list(_first)
    )


def load(text: str) -> Any:
    """Return what a YAML text says.

    Raises
    ------
    yaml.YAMLError
        If it is not YAML.
    """
    return yaml.load(text, _Yaml12Loader)


def load_value(text: str) -> Any:
    """Return the number, boolean, null, list or text that a word of a command line says.

    A word that is none of the others is text as it stands: a path, `007`, `a: b`, nothing.
    Quotes make anything text: `"5"` is.
    """
    try:
        value = load(text)
    except yaml.YAMLError:
        return text
    says_nothing = value is None and text.lower() not in ("null", "~")
    return text if isinstance(value, dict) or says_nothing else value
