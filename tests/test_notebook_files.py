"""What is taken out of notebooks (their code) and made of them (pages)."""

import base64
import io
import re
from pathlib import Path

import nbformat
import numpy as np
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from PIL import Image

from wsol.report.pages import LARGE, page, page_names, relink, with_prose, write_notebook_pages

PIXEL = (
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5E"
    "rkJggg=="
)


def _notebook() -> nbformat.NotebookNode:
    tags = {"tags": ["parameters", "nbval-skip"]}
    cells = [
        new_markdown_cell("# A `title` & *more*\n\nProse."),
        new_code_cell("seed = 0  \n", metadata=tags),
        new_code_cell("\n"),
        new_code_cell("print(seed < 1)", metadata={"alt": "A dark pixel <&>."}),
    ]
    cells[3].outputs = [
        new_output("stream", name="stdout", text="True <&>\n"),
        new_output("display_data", data={"image/png": PIXEL, "text/plain": "<Figure>"}),
    ]
    return new_notebook(cells=cells)


def _write(notebook: nbformat.NotebookNode, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, path)
    return path


def test_a_page_stands_alone_and_says_what_the_notebook_says() -> None:
    notebook = _notebook()
    text = page(notebook, "a.ipynb")
    assert "<title>A title &amp; more</title>" in text
    assert "True &lt;&amp;&gt;" in text
    assert f'src="data:image/png;base64,{PIXEL[:40]}' in text
    assert re.findall(r"<script[^>]*>|<link|https?://|@import", text) == ["<script>"]
    assert len(text) < 20_000
    assert text == page(notebook, "a.ipynb")


def test_a_figure_says_what_it_shows_or_there_is_no_page() -> None:
    notebook = _notebook()
    assert 'alt="A dark pixel &lt;&amp;&gt;."' in page(notebook, "a.ipynb")
    del notebook.cells[3].metadata["alt"]
    with pytest.raises(ValueError, match=r"a\.ipynb, cell 3: a figure without `alt`"):
        page(notebook, "a.ipynb")


def test_a_large_figure_is_a_jpeg_that_looks_the_same() -> None:
    ramp = np.add.outer(np.arange(400), np.arange(500))
    grain = np.random.default_rng(0).integers(0, 40, (400, 500))
    photograph = np.stack([ramp // 5, 200 - ramp // 6, ramp // 9], axis=-1) + grain[..., None]
    alpha = np.full((400, 500, 1), 255)
    alpha[:20] = 0  # nothing there: the page's white
    drawn = Image.fromarray(np.concatenate([photograph, alpha], axis=-1).astype(np.uint8))
    data = io.BytesIO()
    drawn.save(data, "PNG")
    png = base64.b64encode(data.getvalue()).decode()
    assert len(png) > LARGE
    notebook = _notebook()
    notebook.cells[3].outputs[1].data["image/png"] = png
    text = page(notebook, "a.ipynb")
    assert 'alt="A dark pixel' in text
    (jpeg,) = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert "image/png" not in text
    assert len(jpeg) < len(png) / 2
    with Image.open(io.BytesIO(base64.b64decode(jpeg))) as image:
        shown = np.asarray(image, np.float64)
    assert shown[:16].min() > 250
    assert np.abs(shown[24:] - photograph[24:]).mean() < 4
    assert notebook.cells[3].outputs[1].data["image/png"] == png  # the notebook keeps its own


def test_a_page_has_the_prose_of_the_notebook_as_it_is_now() -> None:
    executed, source = _notebook(), _notebook()
    for cell, own in zip(executed.cells, source.cells, strict=True):
        cell["id"] = own["id"]
    del executed.cells[3].metadata["alt"]
    source.cells[0].source, source.cells[3].source = "# Mended", "print('never run')"
    merged = with_prose(executed, source)
    assert merged.cells[0].source == "# Mended"
    assert merged.cells[3].source == "print(seed < 1)"
    assert merged.cells[3].metadata["alt"] == source.cells[3].metadata["alt"]
    assert executed.cells[0].source != "# Mended"


def test_a_sentence_in_a_table_may_be_broken_into_lines_and_a_number_not() -> None:
    notebook = _notebook()
    sentence = "so many words that no table has room for them in one line"
    table = f"<table><tr><td>{sentence}</td><td>76.3 ± 3.3</td></tr></table>"
    notebook.cells[3].outputs = [new_output("display_data", data={"text/html": table})]
    text = page(notebook, "a.ipynb")
    assert f'<td class="long">{sentence}</td><td>76.3 ± 3.3</td>' in text


def test_a_widget_is_the_figure_beside_it() -> None:
    notebook = _notebook()
    plain = page(notebook, "a.ipynb")
    view = {"model_id": "0", "version_major": 2, "version_minor": 0}
    notebook.cells[3].outputs[1].data["application/vnd.jupyter.widget-view+json"] = view
    assert page(notebook, "a.ipynb") == plain
    assert len(notebook.cells[3].outputs[1].data) == 3  # the notebook itself keeps it


def test_links_are_moved_with_their_page() -> None:
    body = '<a href="40.ipynb#x">a</a> <a href="../wsol/m.py">b</a> <img src="https://x.y/z.png">'
    moved = relink(body, "notebooks", "reports/pages", {"notebooks/40.ipynb": "reports/p/4.html"})
    assert re.findall(r'"(.*?)"', moved) == [
        "../p/4.html#x",
        "../../wsol/m.py",
        "https://x.y/z.png",
    ]


def test_pages_of_one_notebook_are_told_apart_by_their_folders() -> None:
    paths = [Path("runs/cam-0/30.ipynb"), Path("runs/cam-1/30.ipynb"), Path("runs/x/90.ipynb")]
    assert page_names(paths) == ["30-cam-0.html", "30-cam-1.html", "90.html"]
    with pytest.raises(ValueError, match="share"):
        page_names([Path("a/x/30.ipynb"), Path("b/x/30.ipynb")])


def test_the_index_links_every_page(tmp_path: Path) -> None:
    executed = [_write(_notebook(), tmp_path / name / "30.ipynb") for name in ("x", "y")]
    written = write_notebook_pages(executed, tmp_path / "html")
    assert [path.name for path in written] == ["30-x.html", "30-y.html", "index.html"]
    index = written[-1].read_text(encoding="utf-8")
    assert re.findall(r'href="(.*?)"', index) == ["30-x.html", "30-y.html"]
