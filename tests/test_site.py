"""The report's front page: complete, the same bytes every time, and its links hold."""

import html
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from wsol.report.site import DOCUMENTS, write_site

ROOT = Path(__file__).parents[1]
LINKED = ("reports", "docs", "notebooks", "params", "wsol", "data", "README.md")


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """A copy of what the site is made of, and the site made there."""
    root = tmp_path_factory.mktemp("site")
    for name in ("reports", "docs", "wsol/published"):
        shutil.copytree(ROOT / name, root / name)
    write_site(root)
    return root


def test_the_committed_site_is_made_of_the_committed_tables(site: Path) -> None:
    pages = ["reports/index.html", *DOCUMENTS.values()]
    pages += [f"reports/models/birds-{name}.html" for name in ("cam-0", "background-0")]
    for page in pages:
        assert (site / page).read_bytes() == (ROOT / page).read_bytes(), page


def test_every_number_of_the_headline_leads_to_a_notebook(site: Path) -> None:
    text = (site / "reports" / "index.html").read_text(encoding="utf-8")
    part = text[text.index("<h2>Result") : text.index("<figure>")]
    cells = re.findall(r"<td>(.*?)</td>", part)
    numbers = [cell for cell in cells if re.search(r"\d\.\d", cell)]
    assert len(numbers) >= 20
    assert all(cell.startswith('<a href="notebooks/') for cell in numbers)
    errors = pd.read_csv(ROOT / "reports" / "tables" / "localization_error.csv")
    assert len(re.findall("<tr>", part)) == len(errors)


def test_published_numbers_stand_apart_with_their_sources(site: Path) -> None:
    text = html.unescape((site / "reports" / "index.html").read_text(encoding="utf-8"))
    quoted = pd.read_csv(ROOT / "reports" / "published" / "localization_error.csv", dtype=str)
    apart = text[text.index("Published numbers, quoted") :]
    assert set(quoted["dataset"]) == {"CUB", "ILSVRC"}
    for row in quoted.itertuples():
        assert row.top1_loc_error in apart
        assert row.read_from in apart
    before = text[: text.index("Published numbers, quoted")]
    assert not [row.method for row in quoted.itertuples() if row.read_from in before]


@pytest.mark.parametrize("page", sorted((ROOT / "reports").rglob("*.html")), ids=lambda p: p.stem)
def test_links_and_pictures_of_a_page_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r'\b(?:href|src)="([^"#:]+)(?:#[^"]*)?"', text):
        file = (page.parent / target).resolve()
        assert file.exists(), target
        assert file.relative_to(ROOT).parts[0] in LINKED, f"{target} is not published"
    for picture in re.findall(r"<img[^>]*>", text):
        assert re.search(r'alt="[^"]{12,}"', picture), picture[:80]
