"""The front page of the report, and pages of documents and model cards: static HTML, no scripts.

    python -m wsol.report.site

Works from the disk and on any static host. Every number leads to the page of the notebook that made
it. The same tables always give the same bytes.
"""

import argparse
import html
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd
from nbconvert.filters import markdown2html

from wsol.report.format import readable, rounded
from wsol.report.pages import html_page, pages_of, relink

# Documents that have a page of their own, from the root of the project.
DOCUMENTS = {
    "docs/methods.md": "reports/methods.html",
    "docs/open_choices.md": "reports/open_choices.html",
    "docs/many_runs.md": "reports/many_runs.html",
}
EXECUTED = ("reports/notebooks", "reports/study_notebooks")  # pages of executed notebooks
NOTEBOOKS = "notebooks"  # folder of the executed notebooks' pages, beside the front page
REFERENCES = ("Constant box", "Centre Gaussian", "Colour-distance saliency", "5x5 patch classifier")
FIGURES = {
    "examples.png": "Test images, ranked by the IoU of the background method: the best, the worst "
    "and three between them. CAM marks the head; class map and foreground map of the method mark "
    "the bird.",
    "error_against_background_images.png": "Errors against the number of background images; 0 is "
    "CAM.",
    "error_against_tau.png": "GT-known error against the threshold of the score map; dots mark the "
    "threshold that was chosen on train-fullsup.",
}
MAPS = (
    "Five test images under every method, ranked by the IoU of the background method: white, the "
    "ground truth; in colour, the box of the map."
)
NOT_REPRODUCED = """
- **The paper's own numbers.** Only its abstract was at hand. It claims the state of the art of its
  day on CUB-200-2011 and ILSVRC2016; no number of it could be found, so none is compared.
- **CUB-200-2011, ILSVRC and OpenImages30k.** The pipelines for them are tested on miniatures in
  their authors' formats. Nothing has been trained on the real ones here, on no GPU, and no
  pretrained weight was used: what stands above is about drawn birds and a network of six layers.
- **The authors' network.** What the abstract leaves open is our choice, each with what was measured
  for it.
"""


def _table(table: pd.DataFrame, kind: str = "") -> str:
    """A table whose cells are HTML already."""
    text = table.to_html(index=False, escape=False, border=0, na_rep="-")
    return f'<div class="wide {kind}">{text}</div>'.replace(' class="dataframe"', "")


def _linked(text: str, page: str) -> str:
    return f'<a href="{page}">{html.escape(text)}</a>' if text != "-" else "-"


def headline(reports: Path) -> str:
    """The main table; errors lead to the report's page, the rest to what made the row."""
    shown = readable(pd.read_csv(reports / "tables" / "localization_error.csv"))
    shown = shown[["Method", "Seeds", *list(shown.columns[4:9])]].astype(str)
    for column in shown.columns[2:]:
        shown[column] = [_linked(text, f"{NOTEBOOKS}/90_report.html") for text in shown[column]]
    made = f"{NOTEBOOKS}/40_evaluate.html", f"{NOTEBOOKS}/45_references.html"
    shown["Method"] = [_linked(name, made[name in REFERENCES]) for name in shown["Method"]]
    return _table(shown)


def quoted(reports: Path) -> str:
    """Published errors, one table per data set, each row with the place it was read from."""
    table = pd.read_csv(reports / "published" / "localization_error.csv", dtype=str)
    headers = {
        "method": "Method",
        "venue": "Published at",
        "backbone": "Backbone",
        "top1_loc_error": "Top-1 loc.",
        "top5_loc_error": "Top-5 loc.",
        "gt_known_loc_error": "GT-known loc.",
        "read_from": "Read from",
    }
    parts = []
    for name, rows in table.fillna("-").groupby("dataset", sort=False):
        shown = rows[list(headers)].rename(columns=headers).map(html.escape)
        parts.append(f"<h3>{html.escape(str(name))}</h3>\n{_table(shown, 'text')}")
    return "\n".join(parts)


def cost(reports: Path) -> str:
    """Seconds, speed and size of each trained row."""
    table = pd.read_csv(reports / "tables" / "cost.csv")
    page = f"{NOTEBOOKS}/90_report.html"
    shown = pd.DataFrame(
        {
            "Method": table["method"].map(html.escape),
            "Backbone": table["backbone"],
            "Seeds": table["n_seeds"].astype(str),
            "Training, s": [_linked(rounded(x), page) for x in table["seconds_mean"]],
            "Images/s": [_linked(rounded(x, 0), page) for x in table["images_per_second_mean"]],
            "Parameters": [_linked(f"{x:,}", page) for x in table["parameters"]],
        }
    )
    return _table(shown)


def open_choices(document: Path) -> str:
    """The table of docs/open_choices.md, as HTML with links from the front page."""
    lines = document.read_text("utf-8").splitlines()
    table = "\n".join(line for line in lines if line.startswith("|"))
    body = relink(markdown2html(table), "docs", "reports", DOCUMENTS)
    return f'<div class="wide text">{body}</div>'


def _figure(file: str, text: str) -> str:
    image = f'<img src="{file}" alt="{html.escape(text)}">'
    return f"<figure>{image}<figcaption>{html.escape(text)}</figcaption></figure>"


def _figures(reports: Path) -> str:
    known = ((f"figures/{name}", text) for name, text in FIGURES.items())
    return "\n".join(_figure(file, text) for file, text in known if (reports / file).is_file())


def _list(links: Mapping[str, str]) -> str:
    items = (f'<li><a href="{page}">{html.escape(name)}</a></li>' for page, name in links.items())
    return "<ul>\n" + "\n".join(items) + "\n</ul>"


def front_page(root: Path, cards: Mapping[str, str]) -> str:
    """The front page; cards : titles of the model cards by page, from the front page."""
    reports = root / "reports"
    csvs = sorted(path.name for path in (reports / "tables").glob("*.csv"))
    tables = {f"tables/{name}": name for name in csvs}
    body = f"""\
<h1>Weakly supervised localization with background images</h1>
<p>A classifier learns from image labels where objects are: badly, as a class activation map (CAM)
marks only the part that tells classes apart. Pictures <em>without</em> any object teach the rest.
This is a reproduction of <em>Weakly Supervised Localization Using Background Images</em>
(Kou, Zhao, Cui, Wang, <a href="https://arxiv.org/abs/1909.03619">arXiv:1909.03619</a>) on drawn
birds. <a href="{NOTEBOOKS}/00_quickstart.html">Try it</a>,
<a href="{NOTEBOOKS}/index.html">read the notebooks</a>, or see
<a href="methods.html">all methods, choices and controls</a>.</p>
<h2>Result</h2>
<p>Errors on <code>test</code> in % (lower is better), mean ± standard deviation over the seeds;
threshold and read-out chosen on <code>train-fullsup</code> for every row; protocol of Choe et al.
(CVPR 2020). Every number leads to the notebook that made it.</p>
{headline(reports)}
{_figures(reports)}
<h2>Beside other methods</h2>
<p>Six methods of the literature, post-hoc maps, plain uses of the same background images and a
localizer trained on boxes, every choice changed one at a time, and ten controls, two of which the
method must lose: <a href="methods.html">all methods, choices and controls</a>.</p>
{_figure("study/maps.png", MAPS)}
<h2>What it cost</h2>
<p>Mean over the seeds, two CPU threads, ten epochs of 2,400 images of 96 x 96 pixels. All methods:
<a href="tables/benchmark_training.csv">benchmark_training.csv</a>.</p>
{cost(reports)}
<h2>What the paper leaves open, and what we chose</h2>
<p>How these were tuned, and what is to be known about the test set, is in
<a href="open_choices.html">open choices</a>.</p>
{open_choices(root / "docs" / "open_choices.md")}
<h2>What is not reproduced</h2>
{markdown2html(NOT_REPRODUCED)}
<h2>Published numbers, quoted</h2>
<p>Errors in % as others published them, on photographs and with other protocols (crops, threshold,
classifier, two-stage training): they compare with nothing above, and not even all with each other.
As data: <a href="published/localization_error.csv">localization_error.csv</a>.</p>
{quoted(reports)}
<h2>Published runs</h2>
<p>Trained networks that come with the package, each with its model card:</p>
{_list(cards)}
<h2>All tables</h2>
{_list(tables)}
"""
    return html_page(
        "Weakly supervised localization with background images", body, "wsol.report.site"
    )


def _document(root: Path, source: str, page: str, pages: Mapping[str, str]) -> str:
    """Write a Markdown file as a page, both from the root; return its title."""
    text = (root / source).read_text("utf-8")
    title = text.partition("\n")[0].lstrip("# ")
    folder, out = source.rpartition("/")[0], page.rpartition("/")[0]
    body = relink(markdown2html(text), folder, out, pages)
    body = body.replace("<table>", '<div class="wide text"><table>')
    body = body.replace("</table>", "</table></div>")
    back = relink('<p><a href="reports/index.html">Report</a></p>', "", out, {})
    (root / page).parent.mkdir(parents=True, exist_ok=True)
    whole = html_page(title, f"{back}\n{body}", source)
    (root / page).write_text(whole, encoding="utf-8", newline="\n")
    return title


def write_site(root: Path) -> list[Path]:
    """Write front page, documents and model cards below root/reports and return them."""
    cards = {
        path.relative_to(root).as_posix(): "-".join(path.parts[-3:-1])
        for path in sorted((root / "wsol" / "published").rglob("card.md"))
    }
    pages = DOCUMENTS | {card: f"reports/models/{name}.html" for card, name in cards.items()}
    made = sorted(path for folder in EXECUTED for path in (root / folder).glob("[0-9]*.html"))
    others = pages_of([path.relative_to(root).as_posix() for path in made])
    titles = {page: _document(root, source, page, pages | others) for source, page in pages.items()}
    shown = {f"models/{name}.html": titles[pages[card]] for card, name in cards.items()}
    index = root / "reports" / "index.html"
    index.write_text(front_page(root, shown), encoding="utf-8", newline="\n")
    return [index, *(root / page for page in pages.values())]


def main(words: Sequence[str] | None = None) -> int:
    """Write the site of the project in the working directory."""
    parser = argparse.ArgumentParser(
        prog="wsol.report.site", description="Front page of the report."
    )
    parser.add_argument("root", type=Path, nargs="?", default=Path())
    for path in write_site(parser.parse_args(words).root):
        print(path.as_posix())
    return 0


if __name__ == "__main__":
    sys.exit(main())
