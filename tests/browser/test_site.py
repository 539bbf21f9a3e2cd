"""The report pages, opened from the disk: they load, link, describe their images, and fit."""

import re
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from lab import OUT, ROOT
from playwright.sync_api import Browser, Page

REPORTS = ROOT / "reports"
PAGES = sorted(REPORTS.rglob("*.html"))
FOLDERS = (".", "pages", "photos_pages", "study_pages")
START = [REPORTS / folder / "index.html" for folder in FOLDERS]
START = [page for page in START if page.is_file()]
WIDTHS = (1280, 390)  # px: a laptop, a telephone
# Alternative texts that say nothing; the last is nbconvert's.
EMPTY_WORDS = {"", "figure", "image", "no description has been provided for this image"}
_FILE = re.compile(r"\S+\.(png|svg|jpe?g)")

_LINKS = "Array.from(document.querySelectorAll('a[href]'), a => a.getAttribute('href'))"
_IDS = "Array.from(document.querySelectorAll('[id]'), e => e.id)"
_IMAGES = """Array.from(document.images, i => ({
    alt: i.alt.trim(), width: i.naturalWidth, source: i.getAttribute('src').slice(0, 60)}))"""
# Of the page itself: a table may scroll inside its own frame.
_OVERFLOW = """Math.max(document.documentElement.scrollWidth, document.body.scrollWidth)
    - document.documentElement.clientWidth"""


@dataclass
class Visit:
    """What a browser saw of a page."""

    complaints: list[str] = field(default_factory=list)  # of console, scripts and requests
    links: list[str] = field(default_factory=list)
    ids: set[str] = field(default_factory=set)
    images: list[dict] = field(default_factory=list)
    overflow: dict[int, int] = field(default_factory=dict)  # px too wide, by width of the window


def _listen(page: Page, complaints: list[str]) -> None:
    page.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("requestfailed", lambda request: complaints.append(f"failed: {request.url}"))


def _visit(page: Page, file: Path) -> Visit:
    visit = Visit()
    _listen(page, visit.complaints)
    for width in WIDTHS:
        page.set_viewport_size({"width": width, "height": 900})
        page.goto(file.as_uri(), wait_until="load")
        visit.overflow[width] = page.evaluate(_OVERFLOW)
        if file in START:
            name = "-".join(["site", *file.relative_to(REPORTS).with_suffix("").parts, str(width)])
            page.screenshot(path=OUT / f"{name}.png", full_page=True)
    visit.links, visit.images = page.evaluate(_LINKS), page.evaluate(_IMAGES)
    visit.ids = set(page.evaluate(_IDS))
    return visit


@pytest.fixture(scope="session")
def visits(browser: Browser) -> dict[Path, Visit]:
    """All pages, each opened once at each width."""
    OUT.mkdir(parents=True, exist_ok=True)
    seen = {}
    for file in PAGES:
        context = browser.new_context(offline=True)
        seen[file] = _visit(context.new_page(), file)
        context.close()
    return seen


def _error(link: str, file: Path, visits: dict[Path, Visit]) -> str:
    """Return what is wrong with a link of a page, empty if nothing is."""
    parts = urlsplit(link)
    if parts.scheme in ("http", "https"):
        return "" if "." in parts.netloc and " " not in link else f"{link}: no address"
    if parts.scheme:
        return "" if parts.scheme == "mailto" else f"{link}: only this machine has it"
    target = (file.parent / unquote(parts.path)).resolve() if parts.path else file
    if not target.exists():
        return f"{link}: no such file"
    if not target.is_relative_to(ROOT):
        return f"{link}: outside the project"
    known = visits.get(target)
    if known and parts.fragment and unquote(parts.fragment) not in known.ids:
        return f"{link}: no such place in the page"
    return ""


def _says_nothing(alt: str) -> bool:
    """Whether an alternative text is a common word, a file's name or the figure's type."""
    return alt.lower() in EMPTY_WORDS or alt.startswith("<Figure") or bool(_FILE.fullmatch(alt))


def test_there_are_pages() -> None:
    assert PAGES
    assert START


def _name(file: Path) -> str:
    return file.relative_to(REPORTS).as_posix()


@pytest.mark.parametrize("file", PAGES, ids=_name)
class TestPage:
    """One report page."""

    def test_loads_without_a_complaint(self, file: Path, visits: dict[Path, Visit]) -> None:
        assert not visits[file].complaints, "\n".join(visits[file].complaints)

    def test_links_lead_somewhere(self, file: Path, visits: dict[Path, Visit]) -> None:
        errors = list(filter(None, (_error(link, file, visits) for link in visits[file].links)))
        assert not errors, "\n".join(errors)

    def test_images_are_there(self, file: Path, visits: dict[Path, Visit]) -> None:
        assert [image for image in visits[file].images if not image["width"]] == []

    def test_images_say_what_they_show(self, file: Path, visits: dict[Path, Visit]) -> None:
        alts = [image["alt"] for image in visits[file].images]
        empty = [alt for alt in alts if _says_nothing(alt)]
        assert not empty, f"{len(empty)} of {len(alts)} say nothing: {sorted(set(empty))}"

    def test_fits_a_laptop_and_a_telephone(self, file: Path, visits: dict[Path, Visit]) -> None:
        assert {w: px for w, px in visits[file].overflow.items() if px > 0} == {}


def test_a_click_on_a_column_sorts_by_its_numbers(page: Page) -> None:
    page.goto((REPORTS / "index.html").as_uri())
    table = page.locator("table").first
    header = table.locator("th", has_text="Classification")
    for pick in (min, max):
        header.click()
        page.wait_for_timeout(50)
        texts = table.locator("tbody td:nth-child(5)").all_inner_texts()
        numbers = [float(text.partition(" ")[0]) for text in texts if text != "-"]
        assert texts[len(numbers) :] == ["-"] * (len(texts) - len(numbers))
        assert numbers[0] == pick(numbers)
