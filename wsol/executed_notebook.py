"""Executed notebooks without the traces of the run, so that two runs are byte-identical."""

import re

from nbformat import NotebookNode

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
