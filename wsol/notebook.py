"""Run a notebook with parameters: the command of every stage in dvc.yaml.

    python -m wsol.notebook NOTEBOOK OUT --section data --section train --set seed=0

papermill does the work. What is added: parameters come straight from params.yaml, so that no
value passes through a shell; a parameter that the notebook does not have, or of another kind
than its default, is refused; two runs leave identical notebooks unless a cell prints something
that varies; and a notebook that fails is called `*.failed.ipynb`, so that it passes for no result.
"""

import argparse
import ast
import difflib
import json
import os
import re
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
import yaml
from nbformat import NotebookNode

from wsol import notebook as yaml12
from wsol import project_root

# YAML as DVC reads it: version 1.2, in which 1e-4 is a number and `no` is a word.


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


# Executed notebooks without the traces of the run, so that two runs are byte-identical.

_WIDGET = "application/vnd.jupyter.widget-view+json"
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")


def normalize(notebook: NotebookNode) -> NotebookNode:
    """Return an executed notebook without times, random ids, versions and progress bars.

    Widgets, which is what tqdm draws, have random ids and are dead on a page; the figure that an
    explorer has beside them stays. Sources, tags,
    counts and results stay. The argument is changed and returned.
    """
    notebook.metadata = NotebookNode(
        kernelspec={"name": "python3", "display_name": "Python 3", "language": "python"},
        language_info={"name": "python"},
    )
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = NotebookNode({"tags": tags} if tags else {})
        if "injected-parameters" in tags:
            cell.id = "injected-parameters"
        if cell.cell_type == "code":
            cell.outputs = _normalize_outputs(cell.outputs)
    return notebook


def _normalize_outputs(outputs: list[NotebookNode]) -> list[NotebookNode]:
    """Join the pieces of each stream, whose number depends on timing; drop memory addresses."""
    kept: list[NotebookNode] = []
    streams: dict[str, NotebookNode] = {}
    for output in outputs:
        widget = output.get("data", {}).pop(_WIDGET, None)
        if widget is not None and "image/png" not in output.data:
            continue
        if output.output_type != "stream":
            if "text/plain" in output.get("data", {}):
                output.data["text/plain"] = _ADDRESS.sub("", output.data["text/plain"])
            kept.append(output)
        elif output.name in streams:
            streams[output.name].text += output.text
        else:
            streams[output.name] = output
            kept.append(output)
    for stream in streams.values():
        stream.text = "\n".join(_last_frame(line) for line in stream.text.split("\n"))
    return kept


def _last_frame(line: str) -> str:
    """Return what a terminal shows of a line that carriage returns overwrite."""
    return line.rstrip("\r").rpartition("\r")[2]


# The code of the notebooks, as files that DVC stages depend on.


def notebook_code(notebook: Path) -> str:
    """Return the code cells of a notebook with their tags, and nothing else.

    Tags for the test runner (`nbval-...`) are left out, because they change no result.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    blocks = [_block(cell) for cell in cells if cell["cell_type"] == "code"]
    return "\n".join(block for block in blocks if block)


def _block(cell: dict) -> str:
    source = "".join(cell["source"]).replace("\r\n", "\n").strip()
    tags = [t for t in cell["metadata"].get("tags", []) if not t.startswith("nbval-")]
    header = " ".join(["# %%", *(f"[{tag}]" for tag in sorted(tags))])
    lines = [line.rstrip() for line in source.split("\n")]
    return "\n".join([header, *lines, ""]) if source else ""


def write_all(notebooks: Path, out: Path) -> list[Path]:
    """Write `out`/NAME.py for each `notebooks`/NAME.ipynb; return the files that changed.

    A file whose text stays the same is not touched, and one whose notebook is gone is removed.
    """
    out.mkdir(parents=True, exist_ok=True)
    sources = sorted(notebooks.glob("*.ipynb"))
    for orphan in {p.stem for p in out.glob("*.py")} - {p.stem for p in sources}:
        (out / f"{orphan}.py").unlink()
    changed = []
    for source in sources:
        target, code = out / f"{source.stem}.py", notebook_code(source)
        if not target.is_file() or target.read_text(encoding="utf-8") != code:
            target.write_text(code, encoding="utf-8", newline="\n")
            changed.append(target)
    return changed


def write_code(words: Sequence[str] | None = None) -> int:
    """Write the code files and name those that changed."""
    parser = argparse.ArgumentParser(prog="wsol.notebook", description="Code of notebooks.")
    parser.add_argument("notebooks", type=Path)
    parser.add_argument("out", type=Path)
    arguments = parser.parse_args(words)
    for path in write_all(arguments.notebooks, arguments.out):
        print(f"{path.as_posix()}: code written")
    return 0


if __name__ == "__main__":
    sys.exit(write_code())

_LONGEST_SOCKET_PATH = 103  # bytes; of the systems that have such sockets, macOS allows the fewest
_KINDS = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}


class Refusal(Exception):
    """A fault of the caller's, in words meant for the caller."""


def read_sections(params_files: Sequence[Path], sections: Sequence[str]) -> dict[str, Any]:
    """Return the parameters of the named sections; a later one wins over an earlier one.

    Parameters
    ----------
    params_files
        YAML files; of what several have at their top level, the last is taken. A section is a flat
        mapping of parameters, `a.b` names section b inside a, and an entry that is no mapping is
        one parameter under its own name.

    Raises
    ------
    Refusal
        If a file or a section is missing, or a section is not flat.
    """
    tree: dict[str, Any] = {}
    for file in params_files if sections else ():
        try:
            tree |= yaml12.load(file.read_text(encoding="utf-8")) or {}
        except (OSError, yaml.YAMLError) as error:
            raise Refusal(f"cannot read {file.name}: {error}") from error
    names = " and ".join(file.name for file in params_files)
    parameters: dict[str, Any] = {}
    for section in sections:
        entry = tree
        for key in section.split("."):
            if not isinstance(entry, dict) or key not in entry:
                raise Refusal(f"{names} has no section {section!r}")
            entry = entry[key]
        flat = entry if isinstance(entry, dict) else {key: entry}
        for name, value in flat.items():
            if isinstance(value, dict):
                raise Refusal(f"section {section!r} is not flat: {name!r} is a mapping")
        parameters |= flat
    return parameters


def read_settings(settings: Sequence[str]) -> dict[str, Any]:
    """Return the parameters that words like `seed=0` give."""
    for setting in settings:
        if not setting.partition("=")[0].isidentifier() or "=" not in setting:
            raise Refusal(f"--set takes NAME=VALUE, not {setting!r}")
    return {name: yaml12.load_value(text) for name, _, text in (s.partition("=") for s in settings)}


def notebook_defaults(notebook: nbformat.NotebookNode) -> dict[str, Any]:
    """Return the names and defaults in the cell tagged `parameters`; empty when there is none.

    papermill.inspect_notebook finds the same names, but gives the defaults as text.

    Raises
    ------
    Refusal
        If a default is not a literal: papermill would not update what is derived from it.
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
                raise Refusal(f"the default of {target.id!r} is not a literal") from error
    return defaults


def check_parameters(parameters: Mapping[str, Any], defaults: Mapping[str, Any]) -> None:
    """Refuse parameters that a notebook does not have, or of another kind than its defaults."""
    unknown = [name for name in parameters if name not in defaults]
    hints = [_unknown(name, defaults) for name in unknown]
    for name, value in parameters.items():
        default = defaults.get(name)
        if default is None or value is None or type(value) not in _KINDS:
            continue
        wanted = _KINDS.get(type(default))
        if wanted and wanted != _KINDS[type(value)]:
            hints.append(f"{name!r} is {wanted}, not {value!r}")
    if hints:
        raise Refusal("; ".join(hints))


def _unknown(name: str, defaults: Mapping[str, Any]) -> str:
    near = difflib.get_close_matches(name, defaults, n=3)
    hint = f" (did you mean {' or '.join(near)}?)" if near else ""
    return f"its parameters cell has no {name!r}{hint}"


def run_notebook(notebook: Path, out: Path, parameters: Mapping[str, Any]) -> None:
    """Execute a notebook in its own folder and write it, normalized, to `out`.

    Raises
    ------
    Refusal
        If the notebook and the parameters do not fit; nothing is run then.
    papermill.PapermillExecutionError
        If a cell raises; the notebook is at `failed_path(out)` then.
    """
    if out.resolve() == notebook.resolve():
        raise Refusal("the executed notebook must not overwrite the notebook itself")
    if not notebook.is_file():
        raise Refusal("there is no such notebook")
    source = nbformat.read(notebook, as_version=4)
    check_parameters(parameters, notebook_defaults(source))
    failed = failed_path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    for stale in (out, failed):
        stale.unlink(missing_ok=True)
    try:
        _execute(source, failed, notebook.resolve().parent, parameters)
    finally:
        if failed.is_file():
            nbformat.write(normalize(nbformat.read(failed, as_version=4)), failed)
    failed.replace(out)


def failed_path(out: Path) -> Path:
    """Return where the executed notebook lies while it runs, and stays if it fails."""
    return out.with_name(f"{out.stem}.failed.ipynb")


def _execute(
    source: nbformat.NotebookNode, out: Path, folder: Path, parameters: Mapping[str, Any]
) -> None:
    import papermill  # takes a second, which a refusal need not wait for
    from traitlets.config import Config

    # The kernel must import the wsol of this folder, which is not the installed one when
    # `dvc exp run` works in a copy, and must not fill the notebook with progress bars.
    paths = [str(project_root(folder)), os.environ.get("PYTHONPATH", "")]
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    os.environ["TQDM_DISABLE"] = "1"
    os.environ["JUPYTER_PREFER_ENV_PATH"] = "1"
    with kernel_sockets() as manager:
        papermill.execute_notebook(
            source,
            str(out.resolve()).replace("{", "{{").replace("}", "}}"),  # papermill formats its paths
            dict(parameters),
            kernel_name="python3",
            language="python",
            progress_bar=sys.stderr.isatty(),
            cwd=folder,
            extra_arguments=["--log-level=CRITICAL"],  # a kernel notes its own shutdown as an error
            config=Config(KernelManager=manager),
        )


@contextmanager
def kernel_sockets() -> Iterator[dict[str, str]]:
    """Give the settings of a kernel manager whose kernel is reached by files, not by ports.

    The ports of a kernel are chosen before it starts and bound by it seconds later: notebooks that
    start side by side, as those of `make study` do, now and then get the same ones, and one of
    them fails (https://github.com/nteract/papermill/issues/511). Files in a folder of one's own
    cannot clash. Where the system has no such sockets, or the path of its temporary folder is too
    long for one, the settings are empty and ports it is.
    """
    with tempfile.TemporaryDirectory(prefix="wsol-") as folder:
        stem = os.path.join(folder, "kernel")
        fits = len(os.fsencode(f"{stem}-9")) <= _LONGEST_SOCKET_PATH
        yield {"transport": "ipc", "ip": stem} if hasattr(socket, "AF_UNIX") and fits else {}


def _reason(error: BaseException) -> str:
    if hasattr(error, "ename"):
        first_line = (str(error.evalue).splitlines() or [""])[0]
        return f"cell [{error.exec_count}] raised {error.ename}: {first_line}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def parse_arguments(words: Sequence[str] | None) -> argparse.Namespace:
    """Return what a command line says: notebook, out, section, set and params_files."""
    parser = argparse.ArgumentParser(prog="wsol.notebook", description="Run a notebook.")
    parser.add_argument("notebook", type=Path)
    parser.add_argument("out", type=Path, help="where to write the executed notebook")
    parser.add_argument("--section", action="append", default=[], help="section of params.yaml")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    parser.add_argument("--params-file", type=Path, action="append", dest="params_files")
    return parser.parse_args(words)


def main(words: Sequence[str] | None = None) -> int:
    """Run what the command line says; return 0, or 1 after one line that says why not."""
    arguments = parse_arguments(words)
    notebook, out, start = arguments.notebook, arguments.out, time.perf_counter()
    try:
        params_files = arguments.params_files or [project_root() / "params.yaml"]
        parameters = read_sections(params_files, arguments.section) | read_settings(arguments.set)
        run_notebook(notebook, out, parameters)
    except KeyboardInterrupt:
        print(f"{notebook.name}: interrupted", file=sys.stderr)
        return 130
    except Exception as error:
        refused = isinstance(error, Refusal | OSError)
        reason = str(error) if refused else _reason(error)
        failed = failed_path(out)
        where = f" (see {failed.as_posix()})" if not refused and failed.is_file() else ""
        print(f"{notebook.name}: {reason}{where}", file=sys.stderr)
        return 1
    print(f"{notebook.name}: {out.as_posix()}, {time.perf_counter() - start:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
