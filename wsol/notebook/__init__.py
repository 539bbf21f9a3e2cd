"""Running a notebook with parameters: what every stage of dvc.yaml does.

papermill executes it. Added here: parameters come from sections of parameter files; one that the
notebook does not have, or of another type than its default, is refused; two executions leave
identical notebooks; a notebook that fails is named `*.failed.ipynb`.
"""

import json
import os
import re
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import nbformat
from nbformat import NotebookNode

from wsol import project_root
from wsol.datasets.files import check_writable
from wsol.notebook.parameters import ParameterError, check_parameters, notebook_defaults

_LONGEST_SOCKET_PATH = 103  # bytes; of the systems that have such sockets, macOS allows the fewest
_WIDGET = "application/vnd.jupyter.widget-view+json"
_ADDRESS = re.compile(r" at 0x[0-9a-f]{6,}")


def run_notebook(notebook: Path, out: Path, parameters: Mapping[str, Any]) -> None:
    """Execute a notebook in its own folder and write it, normalized, to `out`.

    Raises ParameterError, before anything runs, if notebook and parameters do not fit, and
    papermill.PapermillExecutionError if a cell raises; then the notebook is `<out>.failed.ipynb`.
    """
    if not notebook.is_file() or out.resolve() == notebook.resolve():
        raise ParameterError(f"{notebook} is missing, or would be overwritten")
    source = nbformat.read(notebook, as_version=4)
    check_parameters(parameters, notebook_defaults(source))
    failed = out.with_name(f"{out.stem}.failed.ipynb")
    check_writable(out, failed)
    out.parent.mkdir(parents=True, exist_ok=True)
    for stale in (out, failed):
        stale.unlink(missing_ok=True)
    try:
        _execute(source, failed, notebook.resolve().parent, parameters)
    finally:
        if failed.is_file():
            nbformat.write(normalize(nbformat.read(failed, as_version=4)), failed)
    failed.replace(out)


def _execute(source: NotebookNode, out: Path, folder: Path, parameters: Mapping[str, Any]) -> None:
    import papermill  # takes a second, which an error need not wait for
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
            extra_arguments=["--log-level=CRITICAL"],  # a kernel logs its own shutdown as an error
            config=Config(KernelManager=manager),
        )


@contextmanager
def kernel_sockets() -> Iterator[dict[str, str]]:
    """Settings of a kernel manager whose kernel is reached by files, not by ports.

    Notebooks that start side by side sometimes choose the same ports, and one of them fails
    (https://github.com/nteract/papermill/issues/511). Empty where the system has no such sockets or
    the path is too long for one.
    """
    with tempfile.TemporaryDirectory(prefix="wsol-") as folder:
        stem = os.path.join(folder, "kernel")
        fits = len(os.fsencode(f"{stem}-9")) <= _LONGEST_SOCKET_PATH
        yield {"transport": "ipc", "ip": stem} if hasattr(socket, "AF_UNIX") and fits else {}


def describe_failure(error: BaseException) -> str:
    """One line that says which cell raised what."""
    if hasattr(error, "ename"):
        first_line = str(error.evalue).partition("\n")[0]
        return f"cell [{error.exec_count}] raised {error.ename}: {first_line}"
    return f"{type(error).__name__}: {' '.join(str(error).split())}"


def normalize(notebook: NotebookNode) -> NotebookNode:
    """An executed notebook, changed in place: no times, random ids, versions, widgets, bars.

    Sources, tags, counts and results stay, and the figure that an explorer has beside its widgets.
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
    for stream in streams.values():  # what a terminal shows of lines that carriage returns rewrite
        lines = stream.text.split("\n")
        stream.text = "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in lines)
    return kept


def ensure(path: Path, data: Path | None = None) -> None:
    """Make what a notebook reads, below runs/smoke, by the notebook that writes it.

    path : a data set, the run ``train/<method>-<seed>``, its ``evaluate/<method>-<seed>``, the
        ``references``, ``changes/<name>`` or ``controls/<name>``; remade if the library is newer
    data : data set of a run, by default runs/smoke/birds

    So any notebook can be run first with its defaults. Paths elsewhere belong to the user or to the
    pipeline: raises FileNotFoundError if one is missing.
    """
    from wsol.datasets.smoke import SMOKE, is_outdated

    root, name = project_root(), path.name
    kind = name if name == "references" else path.parent.name
    complete = {"train": "weights.safetensors"} | dict.fromkeys(
        ("evaluate", "references", "changes", "controls"), "localization"
    )
    made = path / complete.get(kind, "index.csv")
    if root / SMOKE not in path.parents:
        if path.exists():
            return
        raise FileNotFoundError(
            f"there is no {path}; `dvc repro` makes the results of the pipeline"
        )
    if not is_outdated(made):
        return
    data = data or root / SMOKE / "birds"
    method, _, seed = name.rpartition("-")
    train = {"method": method, "seed": int(seed) if seed.isdigit() else 0, "out": path}
    run = {"run": path.parents[1] / "train" / name, "out": path / "localization"}
    birds = dict(n_train=40, n_fullsup=20, n_test=20, n_background=12, gap=1.0)
    control = {"birds": birds, "methods": ["cam", "background"], "change": {}, "dataset": name}
    notebook, parameters = {
        "train": ("30_train", train | {"data": data}),
        "evaluate": ("40_evaluate", run | {"maps": path / "maps", "data": data}),
        "changes": ("50_change_one_thing", {"out": path, "data": data}),
        "controls": ("50_change_one_thing", control | {"out": path}),
        "references": ("45_references", {"out": path / "localization", "data": data}),
    }.get(kind, ("10_prepare_birds", {"out": path}))
    words = [f"--set={key}={_as_word(value, root)}" for key, value in parameters.items()]
    executed = root / SMOKE / "executed" / f"{notebook}-{name}.ipynb"
    command = [sys.executable, "-m", "wsol.cli", "notebook", f"notebooks/{notebook}.ipynb"]
    done = subprocess.run([*command, executed, *words], cwd=root, capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(done.stderr.strip())


def _as_word(value: object, root: Path) -> str:
    value = value.relative_to(root).as_posix() if isinstance(value, Path) else value
    return value if isinstance(value, str) else json.dumps(value)
