"""The report's front page: complete, the same bytes every time, and its links hold."""

import html
import re
import shutil
from pathlib import Path

import pandas as pd
import pytest

from wsol.report.pages import write_site

ROOT = Path(__file__).parents[1]
LINKED = ("reports", "docs", "notebooks", "study", "wsol", "data", "README.md")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> dict[str, str]:
    """Text by path of the site, written twice in a copy of what it is made of."""
    root = tmp_path_factory.mktemp("site")
    for name in ("reports", "docs", "wsol/published"):
        shutil.copytree(ROOT / name, root / name)
    first = [path.read_bytes() for path in write_site(root)]
    written = write_site(root)
    assert [path.read_bytes() for path in written] == first
    return {path.relative_to(root).as_posix(): path.read_text("utf-8") for path in written}


def test_the_committed_site_follows_from_the_committed_tables(pages) -> None:
    assert {"reports/documents/methods.html", "reports/models/birds-cam-0.html"} < set(pages)
    for page, text in pages.items():
        assert text == (ROOT / page).read_text("utf-8"), page


def test_every_number_of_the_headline_links_to_a_notebook(pages) -> None:
    text = pages["reports/index.html"]
    part = text[text.index("<h2>Drawn birds") :].partition("</figure>")[2].partition("<figure>")[0]
    numbers = [c for c in re.findall(r"<td[^>]*>(.*?)</td>", part) if re.search(r"\d\.\d", c)]
    assert len(numbers) >= 20
    assert all(cell.startswith('<a href="pages/') for cell in numbers)
    errors = pd.read_csv(ROOT / "reports" / "tables" / "localization_error.csv")
    assert part.count("<tr><td>") == len(errors)


def test_the_first_table_is_that_of_the_photographs(pages) -> None:
    text = pages["reports/index.html"]
    part = text[text.index("<h2>") : text.index("<h2>Drawn birds")]
    assert "<h2>Photographs</h2>" in part
    table = pd.read_csv(ROOT / "reports" / "tables" / "photos.csv")
    table = table[(table["dataset"] == "cub27") & ~table["method"].str.contains(": ")]
    assert part.count("<tr><td>") == len(table) >= 12
    link = r'<a href="photos_pages/93_photographs.html">'
    cells = re.findall(rf"<td[^>]*>{link}([\d.]+)[^<]*</a></td>", part)
    for error in table["gt_known_loc_error_mean"]:
        assert f"{error:.1f}" in cells


def test_published_numbers_stand_apart_with_their_sources(pages) -> None:
    text = html.unescape(pages["reports/index.html"])
    before, _, apart = text.partition("Published numbers, quoted")
    quoted = pd.read_csv(ROOT / "reports" / "published" / "localization_error.csv", dtype=str)
    assert set(quoted["dataset"]) == {"CUB", "ILSVRC"}
    for row in quoted.itertuples():
        assert row.top1_loc_error in apart
        assert row.read_from in apart
        assert row.read_from not in before


def test_text_of_tables_is_escaped(tmp_path) -> None:
    for name in ("reports", "docs"):
        shutil.copytree(ROOT / name, tmp_path / name)
    file = tmp_path / "reports" / "published" / "localization_error.csv"
    quoted = pd.read_csv(file, dtype=str)
    quoted.loc[0, "method"] = "<script>&"
    quoted.to_csv(file, index=False)
    text = write_site(tmp_path)[0].read_text("utf-8")
    assert "<td>&lt;script&gt;&amp;</td>" in text
    assert text.count("<script") == 1  # the one of the template


def test_tables_can_be_sorted_by_their_numbers(pages) -> None:
    text = pages["reports/index.html"]
    assert text.count("<script>") == 1
    assert text.count('<table class="sortable') == text.count("<table")
    row = re.search(r"<tr><td>(?:<a [^>]*>)?CAM.*?</tr>", text)[0]
    cells = re.findall(r'<td data-sort="([\d.]*)">(?:<a [^>]*>)?([^<]*)', row)
    assert len(cells) >= 3
    assert all(shown.startswith(f"{number} ±") or shown == "-" for number, shown in cells)


@pytest.mark.parametrize("page", sorted((ROOT / "reports").rglob("*.html")), ids=lambda p: p.stem)
def test_links_and_images_of_a_page_are_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r'\b(?:href|src)="([^"#:]+)(?:#[^"]*)?"', text):
        file = (page.parent / target).resolve()
        assert file.exists(), target
        assert file.relative_to(ROOT).parts[0] in LINKED, f"{target} is not published"
    for image in re.findall(r"<img[^>]*>", text):
        assert re.search(r'alt="[^"]{12,}"', image), image[:80]
