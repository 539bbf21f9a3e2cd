"""Executed notebooks as small static pages that need no network and print well.

    python -m wsol.render runs/report/90_report.ipynb ... --out reports/notebooks

Each page stands alone: styles and pictures are inside, scripts there are none.
"""

import argparse
import html
import logging
import re
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode

# The last lines colour code: keywords, text, numbers, comments, names of functions and classes.
_STYLE = """\
:root { --ink: #222; --faint: #667; --line: #dde; --shade: #f6f7f9; }
body { max-width: 56rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1, h2, h3 { line-height: 1.25; margin: 1.8em 0 .5em; }
h1 { margin-top: 0; }
a { color: #0a5aa8; }
a.anchor-link { display: none; }
img, svg { max-width: 100%; height: auto; }
pre, code { font: 13px/1.45 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.input_area { background: var(--shade); border-left: 3px solid var(--line);
  padding: .5rem .8rem; margin: 1rem 0 .4rem; }
.output_subarea { margin: .4rem 0; overflow-x: auto; }
.output_stderr pre { color: var(--faint); }
.output_error pre { color: #a40000; }
table { border-collapse: collapse; margin: .6rem 0; font-size: 14px; }
th, td { padding: .2rem .7rem; text-align: right; white-space: nowrap; border: 0;
  border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; }
footer { margin-top: 3rem; color: var(--faint); font-size: 13px; }
@media print {
  body { max-width: none; margin: 0; font-size: 11pt; }
  .input_area, .output_subarea, tr, img { break-inside: avoid; }
  h1, h2, h3 { break-after: avoid; }
}
.highlight .k, .highlight .kn, .highlight .kc, .highlight .kd, .highlight .ow { color: #7a1fa2; }
.highlight .s1, .highlight .s2, .highlight .sd, .highlight .sa, .highlight .si { color: #1b6e3c; }
.highlight .mi, .highlight .mf { color: #0a5aa8; }
.highlight .c1 { color: #6a737d; font-style: italic; }
.highlight .nf, .highlight .nc, .highlight .nb { color: #8a4b00; }
"""

_NO_ALT = 'alt="No description has been provided for this image"'

_PAGE = """\
<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
{style}</style>
</head>
<body>
{body}
<footer>{foot}</footer>
</body>
</html>
"""


def page(notebook: NotebookNode, name: str) -> str:
    """Return an executed notebook as one HTML page.

    Parameters
    ----------
    notebook
        Executed notebook. Formulas are shown as they are typed: TeX would need a script.
    name
        What the foot of the page calls it; the title too if the notebook has no heading.
    """
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    exporter.log.setLevel(logging.ERROR)  # it misses alternative texts, which no notebook can give
    body, _ = exporter.from_notebook_node(notebook)
    compact = re.sub(r"\n\s*\n+", "\n\n", body)
    compact = compact.replace(_NO_ALT, 'alt="Figure"')
    return _page(title_of(notebook) or name, compact.strip(), f"{name}, as it was executed.")


def _page(title: str, body: str, foot: str) -> str:
    title, foot = html.escape(title), html.escape(foot)
    return _PAGE.format(title=title, style=_STYLE, body=body, foot=foot)


def title_of(notebook: NotebookNode) -> str:
    """Return the first heading of a notebook, empty if there is none."""
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            for line in cell.source.splitlines():
                if line.startswith("#"):
                    return line.lstrip("#").replace("`", "").replace("*", "").strip()
    return ""


def page_names(executed: Sequence[Path]) -> list[str]:
    """Return a file name for each notebook: its own, with its folder's where two would collide."""
    count = Counter(path.stem for path in executed)
    names = [p.stem if count[p.stem] == 1 else f"{p.stem}-{p.parent.name}" for p in executed]
    if len(set(names)) < len(names):
        raise ValueError("two of the notebooks share both their name and their folder's name")
    return [f"{name}.html" for name in names]


def render(executed: Sequence[Path], out: Path) -> list[Path]:
    """Write a page for each executed notebook into `out`, and an index of them."""
    out.mkdir(parents=True, exist_ok=True)
    written, entries = [], []
    for path, name in zip(executed, page_names(executed), strict=True):
        notebook = nbformat.read(path, as_version=4)
        target = out / name
        target.write_text(page(notebook, path.name), encoding="utf-8", newline="\n")
        written.append(target)
        stem = target.stem
        entries.append(f'<li><a href="{name}">{stem}</a>: {html.escape(title_of(notebook))}</li>')
    body = "<h1>Executed notebooks</h1>\n<ul>\n" + "\n".join(entries) + "\n</ul>"
    index = _page("Executed notebooks", body, "Written by wsol.render.")
    (out / "index.html").write_text(index, encoding="utf-8", newline="\n")
    return [*written, out / "index.html"]


def main(words: Sequence[str] | None = None) -> int:
    """Render what the command line names."""
    parser = argparse.ArgumentParser(prog="wsol.render", description="Notebooks as HTML.")
    parser.add_argument("executed", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args(words)
    for path in render(arguments.executed, arguments.out):
        print(path.as_posix())
    return 0


if __name__ == "__main__":
    sys.exit(main())
