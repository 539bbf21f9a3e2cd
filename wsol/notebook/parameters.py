"""Parameters of notebooks and trainings: read from files and words, checked against defaults."""

import ast
import difflib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nbformat import NotebookNode
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

_TYPES = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}


class ParameterError(ValueError):
    """Parameters that cannot be read or do not fit a notebook or a training."""


def load_yaml(text: str) -> Any:
    """Content of a YAML 1.2 text, as DVC reads it: 1e-4 is a number and `no` a word."""
    return YAML(typ="safe", pure=True).load(text)


def parse_value(text: str) -> Any:
    """The number, boolean, null, list or mapping in braces that a word is, or else the text.

    A date, or anything that is no YAML, is text as it stands. Quotes make text: `"5"`.
    """
    try:
        value = load_yaml(text)
    except YAMLError:
        return text
    if value is None and text.lower() not in ("null", "~"):
        return text
    known = value is None or type(value) in _TYPES
    return value if known or (isinstance(value, dict) and text.startswith("{")) else text


def read_sections(params_files: Sequence[Path], sections: Sequence[str]) -> dict[str, Any]:
    """Parameters of the named sections; a later one wins over an earlier one.

    Parameters
    ----------
    params_files : YAML files; of entries that several have at their top level, the last is taken
    sections : ``a.b`` names section b inside a, whose entries are parameters; an entry that is no
        mapping is one parameter under its own name; ``name=a.b`` adds the entries of a.b to the
        parameter ``name``, a mapping, and ``name.c=a.b`` to its entry c

    Raises ParameterError if a file or a section is missing.
    """
    tree: dict[str, Any] = {}
    for file in params_files if sections else ():
        try:
            content = load_yaml(file.read_text(encoding="utf-8")) or {}
        except (OSError, ValueError, YAMLError) as error:
            raise ParameterError(f"cannot read {file}: {' '.join(str(error).split())}") from error
        if not isinstance(content, dict):
            raise ParameterError(f"{file} has no sections, only {content!r:.40}")
        tree |= content
    parameters: dict[str, Any] = {}
    for section in sections:
        parameter, _, path = section.rpartition("=")
        entry: Any = tree
        for key in path.split("."):
            if not isinstance(entry, dict) or key not in entry:
                names = " and ".join(map(str, params_files))
                raise ParameterError(f"{names} has no section {path!r}")
            entry = entry[key]
        if parameter:
            target = parameters
            for key in parameter.split("."):
                target = target.setdefault(key, {})
            target |= entry
        else:
            parameters |= entry if isinstance(entry, dict) else {key: entry}
    return parameters


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Parameters from words like ``seed=0``. Raises ParameterError for other words."""
    for setting in settings:
        if not setting.partition("=")[0].isidentifier() or "=" not in setting:
            raise ParameterError(f"--set takes NAME=VALUE, not {setting!r}")
    return {name: parse_value(text) for name, _, text in (s.partition("=") for s in settings)}


def notebook_defaults(notebook: NotebookNode) -> dict[str, Any]:
    """Names and defaults in the cell tagged `parameters`; empty when there is none.

    Raises ParameterError if a default is not a literal: papermill would not update what is derived
    from it.
    """
    cells = [c for c in notebook.cells if "parameters" in c.metadata.get("tags", [])]
    defaults = {}
    for node in ast.parse(cells[0].source).body if cells else []:
        targets = node.targets if isinstance(node, ast.Assign) else [getattr(node, "target", None)]
        for target in targets:
            if not isinstance(target, ast.Name) or node.value is None:
                continue
            try:
                defaults[target.id] = ast.literal_eval(node.value)
            except ValueError as error:
                raise ParameterError(f"the default of {target.id!r} is not a literal") from error
    return defaults


def check_parameters(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Raise ParameterError for parameters without a default, or of another type than it."""
    errors = []
    for name, value in parameters.items():
        default = defaults.get(name)
        if name not in defaults:
            near = difflib.get_close_matches(name, defaults, n=3)
            hint = f" (did you mean {' or '.join(near)}?)" if near else ""
            errors.append(f"there is no parameter {name!r}{hint}")
        elif default is not None and value is not None and type(value) in _TYPES:
            expected = _TYPES.get(type(default))
            if expected and expected != _TYPES[type(value)]:
                errors.append(f"{name!r} is {expected}, not {value!r}")
    if errors:
        raise ParameterError("; ".join(errors))
