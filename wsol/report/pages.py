"""Executed notebooks, documents, model cards and the front page of the report as static HTML.

Each page stands alone, with its style sheet and images inside, and needs no network. A script of
3 kB sorts tables by a click on a column (sortable-tablesort 4.1.7, Unlicense, as its package has
it); without scripts nothing else is lost. The templates are in ``templates/``. The same input
always gives the same bytes.
"""

import base64
import io
import posixpath
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import nbformat
import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from nbconvert import HTMLExporter
from nbconvert.filters import markdown2html
from nbformat import NotebookNode
from PIL import Image

from wsol.datasets.files import write_text
from wsol.evaluation.metrics import ERRORS
from wsol.report.format import HEADERS, readable

NOTEBOOKS = "notebooks"  # folder of the notebooks, from the root of the project
EXECUTED = ("reports/pages", "reports/study_pages", "reports/photos_pages")  # their folders
LARGE = 300_000  # base64 characters of a PNG, above which a page has it as JPEG
REFERENCES = ("Constant box", "Centre Gaussian", "Colour-distance saliency", "5x5 patch classifier")
PHOTOGRAPHS = ("gt_known_loc_error", "top1_loc_error", "cls_error", "maxboxacc_v2")
QUOTED = {"method": "Method", "venue": "Published at", "backbone": "Backbone"}  # column, header
QUOTED |= {error: HEADERS[error] for error in ERRORS} | {"read_from": "Read from"}

_LONG_CELL = re.compile(r"<td>([^<]{40,})</td>")  # a sentence, which may be broken into lines
_TABLE = re.compile(r"<table.*?</table>", re.DOTALL)
_NUMBER = re.compile(r"<td([^>]*)>(?=(?:<a [^>]*>)?(?:-|([\d.]+) ±.*?)<)")
_WIDGET = "application/vnd.jupyter.widget-view+json"  # needs a server; its figure is beside it
_TEMPLATES = Environment(
    loader=PackageLoader("wsol.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
    keep_trailing_newline=True,
)


def _render(template: str = "page.html.j2", **values: Any) -> str:
    return _TABLE.sub(_sortable, _TEMPLATES.get_template(template).render(values))


def _sortable(match: re.Match) -> str:
    """A table as the script wants it: a mean ± deviation is ordered by its mean, "-" comes last."""
    text = match[0]
    if "</thead>" not in text or re.search(r" (row|col)span=", text):
        return text  # cells of several columns or rows cannot be sorted
    text = _NUMBER.sub(lambda cell: f'<td{cell[1]} data-sort="{cell[2] or ""}">', text)
    return text.replace("<table>", '<table class="">', 1).replace(
        'class="', 'class="sortable asc n-last ', 1
    )


def page(
    notebook: NotebookNode, name: str, out: str = "", pages: Mapping[str, str] | None = None
) -> str:
    """Return an executed notebook as one HTML page, formulas as TeX source.

    name : for the foot of the page, and its title if the notebook has no heading
    out, pages : folder of the page, and the pages of other notebooks, see `relink`

    Widgets are left out, and large figures become JPEG. Raises ValueError if a figure has no
    alternative text, ``alt`` in the metadata of its cell.
    """
    notebook = nbformat.from_dict(notebook)  # a copy
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
    prompts = dict(exclude_input_prompt=True, exclude_output_prompt=True)
    exporter = HTMLExporter(template_name="basic", embed_images=True, **prompts)
    body, _ = exporter.from_notebook_node(notebook)
    body = re.sub(r"\n\s*\n+", "\n\n", body).strip()
    body = _LONG_CELL.sub(r'<td class="long">\1</td>', body)
    body = relink(body, NOTEBOOKS, out, pages or {}) if out else body
    title, foot = title_of(notebook) or name, f"{name}, as it was executed."
    return _render(title=title, body=Markup(body), foot=foot)


def to_jpeg(png: str) -> str:
    """Convert a base64 PNG to a base64 JPEG, sharp enough for letters and boxes of one pixel."""
    out = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        flat = Image.new("RGB", image.size, "white")
        flat.paste(image, mask=image.getchannel("A") if "A" in image.getbands() else None)
    flat.save(out, "JPEG", quality=90, subsampling=0, optimize=True)
    return base64.b64encode(out.getvalue()).decode("ascii")


def with_prose(executed: NotebookNode, source: NotebookNode) -> NotebookNode:
    """Return an executed notebook with the prose and `alt` texts of its source, matched by id."""
    executed = nbformat.from_dict(executed)
    sources = {cell.id: cell for cell in source.cells}
    for cell in executed.cells:
        current = sources.get(cell.id, cell)
        if cell.cell_type == current.cell_type == "markdown":
            cell.source = current.source
        if "alt" in current.metadata:
            cell.metadata["alt"] = current.metadata["alt"]
    return executed


def relink(body: str, source: str, out: str, pages: Mapping[str, str]) -> str:
    """Change the relative links of HTML written for one folder so that they hold in another.

    source, out : both folders, from the root of the project
    pages : page that replaces the target of a link, by target, both from the root
    """

    def moved(match: re.Match) -> str:
        attribute, target = match.groups()
        if re.match(r"[a-zA-Z]+:|#|/", target):
            return match.group(0)
        path, mark, fragment = target.partition("#")
        path = posixpath.normpath(posixpath.join(source, path))
        return f'{attribute}="{posixpath.relpath(pages.get(path, path), out)}{mark}{fragment}"'

    return re.sub(r'\b(href|src)="([^"]+)"', moved, body)


def title_of(notebook: NotebookNode) -> str:
    """Return the first heading of a notebook, empty if there is none."""
    prose = "\n".join(cell.source for cell in notebook.cells if cell.cell_type == "markdown")
    heading = re.search(r"^#+(.*)", prose, re.MULTILINE)
    return re.sub("[`*]", "", heading[1]).strip() if heading else ""


def page_names(executed: Sequence[Path]) -> list[str]:
    """Return a file name for each notebook: its own, with its folder's where two would collide."""
    count = Counter(path.stem for path in executed)
    names = [p.stem if count[p.stem] == 1 else f"{p.stem}-{p.parent.name}" for p in executed]
    if len(set(names)) < len(names):
        raise ValueError("two of the notebooks share both their name and their folder's name")
    return [f"{name}.html" for name in names]


def pages_of(pages: Sequence[str]) -> dict[str, str]:
    """Return the first page of each notebook; names of pages begin with the notebook's."""
    names = [posixpath.basename(path).removesuffix(".html").partition("-")[0] for path in pages]
    notebooks = [f"{NOTEBOOKS}/{name}.ipynb" for name in names]
    return dict(zip(reversed(notebooks), reversed(pages), strict=True))


def write_notebook_pages(
    executed: Sequence[Path], out: Path, others: Sequence[str] = ()
) -> list[Path]:
    """Write a page for each executed notebook into `out`, and an index of them.

    Prose is read from ``notebooks/`` below the working directory, where a notebook is there.

    others : pages written elsewhere, to which links to their notebooks lead

    Raises ValueError if two pages would have one name or a figure has no alternative text.
    """
    entries, names = [], page_names(executed)
    pages = pages_of([*(f"{out.as_posix()}/{name}" for name in names), *others])
    for path, name in zip(executed, names, strict=True):
        notebook, source = nbformat.read(path, as_version=4), Path(NOTEBOOKS) / path.name
        if source.is_file():
            notebook = with_prose(notebook, nbformat.read(source, as_version=4))
        write_text(out / name, page(notebook, path.name, out.as_posix(), pages))
        stem = name.removesuffix(".html")
        entries.append({"page": name, "name": stem, "title": title_of(notebook)})
    about = {"title": "Executed notebooks", "entries": entries, "foot": "wsol.report.pages"}
    write_text(out / "index.html", _render("notebooks.html.j2", **about))
    return [*(out / name for name in names), out / "index.html"]


def _headline(reports: Path) -> list[dict[str, dict]]:
    table = readable(pd.read_csv(reports / "tables" / "localization_error.csv"))
    table = table[["Method", "Seeds", *list(table.columns[4:9])]].astype(str)
    rows = [_cells(row, "pages/90_report.html") for row in table.to_dict("records")]
    for row in rows:
        name = "45_references" if row["Method"]["text"] in REFERENCES else "40_evaluate"
        row["Method"]["page"], row["Seeds"]["page"] = f"pages/{name}.html", ""
    return rows


def _photographs(reports: Path) -> list[dict[str, dict]]:
    """The class maps of the study on photographs, as rows of the front page."""
    table = pd.read_csv(reports / "tables" / "photos.csv").fillna({"backbone": ""})
    table = table[(table["dataset"] == "cub27") & ~table["method"].str.contains(": ")]
    text = readable(table.sort_values("gt_known_loc_error_mean", kind="stable"))
    rows = text[["Method", "Seeds", *(HEADERS[name] for name in PHOTOGRAPHS)]].to_dict("records")
    return [_cells(row, "photos_pages/93_photographs.html") for row in rows]


def _quoted(reports: Path) -> list[tuple[str, list[dict[str, dict]]]]:
    table = pd.read_csv(reports / "published" / "localization_error.csv", dtype=str).fillna("-")
    groups = table.rename(columns=QUOTED).groupby("dataset", sort=False)[[*QUOTED.values()]]
    return [(name, [_cells(row) for row in rows.to_dict("records")]) for name, rows in groups]


def _cells(row: Mapping[str, str], page: str = "") -> dict[str, dict]:
    return {name: {"text": text, "page": page} for name, text in row.items()}


def _write_document(root: Path, source: str, out: str, pages: Mapping[str, str]) -> str:
    text = (root / source).read_text("utf-8")
    title, folder = text.partition("\n")[0].lstrip("# "), posixpath.dirname(out)
    body = relink(markdown2html(text), posixpath.dirname(source), folder, pages)
    body = body.replace("<table>", '<div class="wide text"><table>')
    body = body.replace("</table>", "</table></div>")
    back = relink('<p><a href="reports/index.html">Report</a></p>', "", folder, {})
    write_text(root / out, _render(title=title, body=Markup(f"{back}\n{body}"), foot=source))
    return title


def write_site(root: Path) -> list[Path]:
    """Write front page, documents and model cards below root/reports and return them.

    Reads tables, figures and pages in root/reports, root/docs/*.md and root/wsol/published.
    """
    reports = root / "reports"
    names = sorted(path.stem for path in root.glob("docs/*.md"))
    documents = {f"docs/{name}.md": f"reports/documents/{name}.html" for name in names}
    cards = {
        path.relative_to(root).as_posix(): f"reports/models/{'-'.join(path.parts[-3:-1])}.html"
        for path in sorted(root.glob("wsol/published/**/card.md"))
    }
    executed = sorted(path for folder in EXECUTED for path in (root / folder).glob("[0-9]*.html"))
    pages = documents | cards | pages_of([path.relative_to(root).as_posix() for path in executed])
    sources = [*documents, *cards]
    titles = {source: _write_document(root, source, pages[source], pages) for source in sources}
    choices = (root / "docs" / "open_choices.md").read_text("utf-8").splitlines()
    choices = markdown2html("\n".join(line for line in choices if line.startswith("|")))
    text = _render(
        "index.html.j2",
        title="Weakly supervised localization with background images",
        foot="wsol.report.pages",
        headline=_headline(reports),
        photographs=_photographs(reports),
        figures=[path.relative_to(reports).as_posix() for path in reports.glob("figures/*.png")],
        open_choices=Markup(relink(choices, "docs", "reports", documents)),
        quoted=_quoted(reports),
        cards=[(card.removeprefix("reports/"), titles[source]) for source, card in cards.items()],
        tables=[(f"tables/{p.name}", p.name) for p in sorted(reports.glob("tables/*.csv"))],
    )
    write_text(reports / "index.html", text)
    return [reports / "index.html", *(root / out for out in (documents | cards).values())]
