"""Fixtures of the browser tests, a plugin of their own: pytest takes one `conftest` alone, that of the folder above."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright
from sites import launch, served, static, watched


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium for the tests of a module."""
    with sync_playwright() as playwright:
        browser = launch(playwright)
        yield browser
        browser.close()


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile for every test."""
    with watched(browser) as context:
        yield context


@pytest.fixture
def page(context: BrowserContext) -> Page:
    """An empty page."""
    return context.new_page()


@pytest.fixture(scope="module")
def service(ticket: Path) -> Iterator[str]:
    """The address of `mirl serve` with the `ticket` of the module."""
    with served(ticket) as address:
        yield address


@pytest.fixture(scope="module")
def static_site(ticket: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of the page without a service, with the `ticket` of the module."""
    with static(ticket, tmp_path_factory.mktemp("static")) as address:
        yield address
