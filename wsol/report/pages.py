"""Executed notebooks as small static pages that need no network and print well.

    python -m wsol.report.pages runs/report/90_report.ipynb ... --out reports/notebooks

Each page stands alone: styles and pictures are inside, scripts there are none.
"""

import argparse
import base64
import html
import io
import posixpath
import re
import sys
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import nbformat
from nbconvert import HTMLExporter
from nbformat import NotebookNode
from PIL import Image

# The last lines colour code: keywords, text, numbers, comments, names of functions and classes.
_STYLE = """\
:root { --ink: #222; --faint: #667; --line: #dde; --shade: #f6f7f9; }
body { max-width: 68rem; margin: 2rem auto; padding: 0 1rem; color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }
h1, h2, h3 { line-height: 1.25; margin: 1.8em 0 .5em; }
p, li { max-width: 60rem; }
h1 { margin-top: 0; }
a { color: #0a5aa8; }
a.anchor-link { display: none; }
img, svg { max-width: 100%; height: auto; }
pre, code { font: 13px/1.45 ui-monospace, Menlo, Consolas, "DejaVu Sans Mono", monospace; }
pre { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; }
.input_area { background: var(--shade); border-left: 3px solid var(--line);
  padding: .5rem .8rem; margin: 1rem 0 .4rem; }
.output_subarea { margin: .4rem 0; overflow-x: auto; }
figure { margin: 1rem 0; }
figcaption { color: var(--faint); font-size: 14px; }
.wide { overflow-x: auto; }
.text td, .text th { text-align: left; white-space: normal; vertical-align: top; }
.text td[style*=right], .text th[style*=right] { text-align: right; }
.text td[style*=right] { white-space: nowrap; }
.wide:not(.text) td a { color: inherit; text-decoration-color: var(--line); }
thead th { max-width: 9rem; }
code { overflow-wrap: anywhere; }
.output_stderr pre { color: var(--faint); }
.output_error pre { color: #a40000; }
table { border-collapse: collapse; margin: .6rem 0; font-size: 14px; }
th, td { padding: .2rem .5rem; text-align: right; white-space: nowrap; border: 0;
  border-bottom: 1px solid var(--line); }
td.long { text-align: left; white-space: normal; overflow-wrap: anywhere; min-width: 14rem; }
thead th { white-space: normal; vertical-align: bottom; }
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

_LONG_CELL = re.compile(r"<td>([^<]{40,})</td>")  # a sentence, which may be broken into lines
NOTEBOOKS = Path("notebooks")  # from the working directory, the root of the project
LARGE = 300_000  # characters of a picture, above which a page has it as JPEG
_WIDGET = "application/vnd.jupyter.widget-view+json"  # needs a server; its figure stands beside it

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


def page(
    notebook: NotebookNode, name: str, out: str = "", pages: Mapping[str, str] | None = None
) -> str:
    """Return an executed notebook as one HTML page.

    Parameters
    ----------
    notebook
        Executed notebook. Formulas are shown as they are typed: TeX would need a script.
    name
        What the foot of the page calls it; the title too if the notebook has no heading.
    out, pages
        Folder of the page, and the pages of other notebooks, see `relink`.

    Raises
    ------
    ValueError
        If a figure has no alternative text, `alt` in the metadata of its cell.
    """
    exporter = HTMLExporter(
        template_name="basic",
        exclude_input_prompt=True,
        exclude_output_prompt=True,
        embed_images=True,
    )
    body, _ = exporter.from_notebook_node(_described(notebook, name))
    compact = re.sub(r"\n\s*\n+", "\n\n", body)
    compact = _LONG_CELL.sub(r'<td class="long">\1</td>', compact)
    compact = relink(compact, NOTEBOOKS.as_posix(), out, pages or {}) if out else compact
    return html_page(title_of(notebook) or name, compact.strip(), f"{name}, as it was executed.")


def _described(notebook: NotebookNode, name: str) -> NotebookNode:
    """The notebook without widgets, each of whose figures says what it shows."""
    notebook = nbformat.from_dict(notebook)
    for number, cell in enumerate(notebook.cells):
        for output in cell.get("outputs", []):
            data = output.get("data", {})
            data.pop(_WIDGET, None)
            if len(data.get("image/png", "")) > LARGE:
                data["image/jpeg"] = to_jpeg(data.pop("image/png"))
            if any(kind.startswith("image/") for kind in data) and not cell.metadata.get("alt"):
                raise ValueError(
                    f"{name}, cell {number}: a figure without `alt` in the metadata of its cell"
                )
    return notebook


def to_jpeg(png: str) -> str:
    """A picture, base64 of PNG, as base64 of JPEG: a third of the size where it is of photographs.

    Colours are kept at full resolution, so that boxes of one pixel and letters stay sharp.
    """
    out = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
    flat.save(out, "JPEG", quality=90, subsampling=0, optimize=True)
    return base64.b64encode(out.getvalue()).decode("ascii")


def with_prose(executed: NotebookNode, source: NotebookNode) -> NotebookNode:
    """Return an executed notebook with the prose and the `alt` texts of its source as it is now.

    What is computed is the executed notebook's: prose may be mended without computing again.
    Cells belong together by their ids.
    """
    executed = nbformat.from_dict(executed)
    now = {cell.id: cell for cell in source.cells}
    for cell in executed.cells:
        own = now.get(cell.id)
        if own is None:
            continue
        if cell.cell_type == own.cell_type == "markdown":
            cell.source = own.source
        if "alt" in own.metadata:
            cell.metadata["alt"] = own.metadata["alt"]
    return executed


def relink(body: str, source: str, out: str, pages: Mapping[str, str]) -> str:
    """Return HTML that was written in one folder so that its links hold in another.

    Parameters
    ----------
    source, out
        Both folders, from the root of the project.
    pages
        What links to a file shall lead to in its place, both from the root.
    """

    def moved(match: re.Match) -> str:
        attribute, target = match.groups()
        if re.match(r"[a-zA-Z]+:|#|/", target):
            return match.group(0)
        path, mark, fragment = target.partition("#")
        whole = posixpath.normpath(posixpath.join(source, path))
        return f'{attribute}="{posixpath.relpath(pages.get(whole, whole), out)}{mark}{fragment}"'

    return re.sub(r'\b(href|src)="([^"]+)"', moved, body)


def html_page(title: str, body: str, foot: str) -> str:
    """Return a whole page in the style of all of them: title and foot are text, body is HTML."""
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


def pages_of(pages: Sequence[str]) -> dict[str, str]:
    """Return, by notebook, the first of its pages: their names begin with the notebook's."""
    found: dict[str, str] = {}
    for path in pages:
        name = posixpath.basename(path).removesuffix(".html").partition("-")[0]
        found.setdefault(f"{NOTEBOOKS.as_posix()}/{name}.ipynb", path)
    return found


def render(executed: Sequence[Path], out: Path, others: Sequence[str] = ()) -> list[Path]:
    """Write a page for each executed notebook into `out`, and an index of them.

    others : pages made elsewhere, to which links to their notebooks lead
    """
    out.mkdir(parents=True, exist_ok=True)
    written, entries, names = [], [], page_names(executed)
    pages = pages_of([*(f"{out.as_posix()}/{name}" for name in names), *others])
    for path, name in zip(executed, names, strict=True):
        notebook, source = nbformat.read(path, as_version=4), NOTEBOOKS / path.name
        if source.is_file():
            notebook = with_prose(notebook, nbformat.read(source, as_version=4))
        target = out / name
        text = page(notebook, path.name, out.as_posix(), pages)
        target.write_text(text, encoding="utf-8", newline="\n")
        written.append(target)
        stem = target.stem
        entries.append(f'<li><a href="{name}">{stem}</a>: {html.escape(title_of(notebook))}</li>')
    body = "<h1>Executed notebooks</h1>\n<ul>\n" + "\n".join(entries) + "\n</ul>"
    index = html_page("Executed notebooks", body, "Written by wsol.report.pages.")
    (out / "index.html").write_text(index, encoding="utf-8", newline="\n")
    return [*written, out / "index.html"]


def main(words: Sequence[str] | None = None) -> int:
    """Render what the command line names."""
    parser = argparse.ArgumentParser(prog="wsol.report.pages", description="Notebooks as HTML.")
    parser.add_argument("executed", type=Path, nargs="+")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--others", nargs="*", default=[], help="pages made elsewhere")
    arguments = parser.parse_args(words)
    for path in render(arguments.executed, arguments.out, arguments.others):
        print(path.as_posix())
    return 0


if __name__ == "__main__":
    sys.exit(main())
