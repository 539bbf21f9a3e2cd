"""The explorer notebook, used by keyboard: another tau gives another box and another IoU."""

import re
from collections.abc import Iterator

import pytest
from lab import OUT, PANEL, ROOT, Lab, OpenNotebook, opened, wait_until
from playwright.sync_api import Locator, Page

EXPLORER = ROOT / "notebooks" / "44_explore.ipynb"
CHOICES = ("run", "order", "image", "map")

# The pixels, because the address of a widget's image is new even if the image is not.
_PIXELS = """images => images.every(i => i.complete) ? images.map(i => {
    const canvas = document.createElement("canvas");
    [canvas.width, canvas.height] = [i.naturalWidth, i.naturalHeight];
    canvas.getContext("2d").drawImage(i, 0, 0);
    return canvas.toDataURL();
}) : []"""

pytestmark = pytest.mark.skipif(not EXPLORER.is_file(), reason=f"there is no {EXPLORER.name}")


def _labelled(tab: OpenNotebook, kind: str, label: str) -> Locator:
    """Return the widget of a kind that is described by a word."""
    exactly = tab.page.locator(".widget-label", has_text=re.compile(rf"^\s*{label}\s*$"))
    return tab.page.locator(f"{PANEL} .{kind}", has=exactly)


def _iou(tab: OpenNotebook) -> str:
    """Return what is said about the IoU, empty while nothing is."""
    said = tab.page.locator(f"{PANEL} .widget-html-content", has_text=re.compile(r"IoU"))
    return said.first.inner_text() if said.count() else ""


def _seen(tab: OpenNotebook) -> tuple[str, list[str]]:
    """Return the IoU and the images; without images while one of them is loading."""
    images = tab.page.locator(f"{PANEL} .jp-OutputArea img")
    return _iou(tab), images.evaluate_all(_PIXELS)


def _differs(now: tuple[str, list[str]], before: tuple[str, list[str]]) -> bool:
    """Whether another IoU or another image is shown; an empty one is not another one."""
    return any(new and new != old for new, old in zip(now, before, strict=True))


@pytest.fixture
def explorer(lab: Lab, page: Page) -> Iterator[OpenNotebook]:
    with opened(lab, page, EXPLORER) as tab:
        tab.run_all()
        wait_until(lambda: re.search(r"IoU\D*\d\.\d\d", _iou(tab)), "the IoU is shown", 60)
        yield tab


def test_every_choice_is_there_and_offers_something(explorer: OpenNotebook) -> None:
    assert explorer.errors() == []
    for label in CHOICES:
        menu = _labelled(explorer, "widget-dropdown", label)
        assert menu.count() == 1, label
        assert menu.locator("option").count() >= 1, label


def test_another_tau_gives_another_box(explorer: OpenNotebook) -> None:
    slider = _labelled(explorer, "widget-slider", "tau")
    handle, readout = slider.locator(".noUi-handle"), slider.locator(".widget-readout")
    before, tau = _seen(explorer), readout.inner_text()
    explorer.screenshot(OUT / f"{EXPLORER.stem}-before.png")

    handle.focus()
    for key in _keys(handle):
        explorer.page.keyboard.press(key)
    wait_until(lambda: readout.inner_text() != tau, "the slider shows another tau", 20)
    wait_until(lambda: _differs(_seen(explorer), before), "IoU or image are others", 60)
    wait_until(lambda: explorer.lab.is_idle(explorer.path), "the kernel is idle", 60)
    explorer.screenshot(OUT / f"{EXPLORER.stem}-after.png")
    assert explorer.errors() == []


def _keys(handle: Locator) -> list[str]:
    """Return the key that moves the handle to the end where there is more room.

    A step is a thousandth, of which a few may leave the box where it was.
    """
    now, low, high = (
        float(handle.get_attribute(f"aria-value{which}") or 0) for which in ("now", "min", "max")
    )
    return ["End" if high - now >= now - low else "Home"]
