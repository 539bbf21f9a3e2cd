"""What is taken out of notebooks (their code) and made of them (pages)."""

import re
from pathlib import Path

import nbformat
import pytest
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output

from wsol.notebook_code import notebook_code, write_all
from wsol.render import page, page_names, render

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
        new_code_cell("print(seed < 1)"),
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


def test_code_is_the_code_cells_with_the_tags_that_matter(tmp_path: Path) -> None:
    path = _write(_notebook(), tmp_path / "a.ipynb")
    assert notebook_code(path) == "# %% [parameters]\nseed = 0\n\n# %%\nprint(seed < 1)\n"


def test_code_files_are_touched_only_when_they_change(tmp_path: Path) -> None:
    folder, out = tmp_path / "notebooks", tmp_path / "build"
    for name in "ab":
        _write(_notebook(), folder / f"{name}.ipynb")
    assert write_all(folder, out) == [out / "a.py", out / "b.py"]
    changed = _notebook()
    changed.cells[0].source = "# Another title"
    changed.cells[3].outputs = []
    changed.cells[3].execution_count = 9
    _write(changed, folder / "a.ipynb")
    before = (out / "a.py").stat().st_mtime_ns
    assert write_all(folder, out) == []
    assert (out / "a.py").stat().st_mtime_ns == before
    (folder / "b.ipynb").unlink()
    assert write_all(folder, out) == []
    assert not (out / "b.py").exists()


def test_a_page_stands_alone_and_says_what_the_notebook_says() -> None:
    notebook = _notebook()
    text = page(notebook, "a.ipynb")
    assert "<title>A title &amp; more</title>" in text
    assert "True &lt;&amp;&gt;" in text
    assert f'src="data:image/png;base64,{PIXEL[:40]}' in text
    assert re.findall(r"<script|<link|https?://|@import", text) == []
    assert len(text) < 20_000
    assert text == page(notebook, "a.ipynb")


def test_pages_of_one_notebook_are_told_apart_by_their_folders() -> None:
    paths = [Path("runs/cam-0/30.ipynb"), Path("runs/cam-1/30.ipynb"), Path("runs/x/90.ipynb")]
    assert page_names(paths) == ["30-cam-0.html", "30-cam-1.html", "90.html"]
    with pytest.raises(ValueError, match="share"):
        page_names([Path("a/x/30.ipynb"), Path("b/x/30.ipynb")])


def test_the_index_links_every_page(tmp_path: Path) -> None:
    executed = [_write(_notebook(), tmp_path / name / "30.ipynb") for name in ("x", "y")]
    written = render(executed, tmp_path / "html")
    assert [path.name for path in written] == ["30-x.html", "30-y.html", "index.html"]
    index = written[-1].read_text(encoding="utf-8")
    assert re.findall(r'href="(.*?)"', index) == ["30-x.html", "30-y.html"]
