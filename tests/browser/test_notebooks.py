"""Every notebook, opened in JupyterLab with its defaults and run by the menu."""

from pathlib import Path

import pytest
from lab import OUT, ROOT, Lab, opened
from nbformat import NotebookNode
from playwright.sync_api import Page

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))


def _outputs(notebook: NotebookNode, kind: str) -> list[NotebookNode]:
    """Return the outputs of one type, in order."""
    codes = [cell for cell in notebook.cells if cell.cell_type == "code"]
    return [o for cell in codes for o in cell.outputs if o.output_type == kind]


@pytest.mark.parametrize("notebook", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_the_menu_without_error_or_warning(
    lab: Lab, page: Page, notebook: Path
) -> None:
    thrown: list[str] = []
    page.on("pageerror", lambda error: thrown.append(str(error)))
    with opened(lab, page, notebook) as tab:
        tab.run_all()
        saved = tab.save()
        tab.screenshot(OUT / f"{notebook.stem}.png")
        assert tab.errors() == []
    assert _outputs(saved, "error") == []
    codes = [c for c in saved.cells if c.cell_type == "code" and c.source.strip()]
    assert [cell.source for cell in codes if cell.execution_count is None] == []
    streams = _outputs(saved, "stream")
    red = [stream.text for stream in streams if stream.name == "stderr"]
    assert [text for text in red if "Traceback" in text or "Warning" in text] == []
    assert thrown == []
