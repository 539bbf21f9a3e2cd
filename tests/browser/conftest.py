"""One browser and one JupyterLab for all tests; without a Chromium, one line and no test."""

from collections.abc import Iterator

import pytest
from lab import NO_CHROMIUM, Lab, chromium_flags, find_chromium, running_lab
from playwright.sync_api import Browser, Page, sync_playwright


def pytest_cmdline_main() -> int | None:
    """Say so and leave, without an error, where there is no browser."""
    with sync_playwright() as playwright:
        if find_chromium(playwright):
            return None  # pytest goes on
    print(NO_CHROMIUM)
    return 0


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=find_chromium(playwright), args=chromium_flags()
        )
        yield browser
        browser.close()


@pytest.fixture
def page(browser: Browser) -> Iterator[Page]:
    context = browser.new_context(viewport={"width": 1400, "height": 1000})
    yield context.new_page()
    context.close()


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    with running_lab() as lab:
        yield lab
