"""Denoise, dehaze and tone: they work at once, as Python's options do, and the page says how much haze was seen."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import Page, expect
from sites import difference, drop, encoded, make_loud, photo, row, saved, served, set_range, shown, wait_done

import mirl
from mirl.engine.haze import amount_of_haze
from mirl.ticket import encode_ticket
from mirl.windows import Windows
from test_haze import make_head

pytest_plugins = ["pages"]

SETTINGS: list[dict[str, Any]] = [
    {},
    {"denoise": 0.4, "dehaze": 0.7, "strength": 0.8},
    {"dehaze": 0},
    {"tone": "keep"},
    {"denoise": 0},
]


@pytest.fixture(scope="module")
def ticket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The shipped network, as random ones change nothing that looks like noise or haze, with a head that is never sure."""
    path = tmp_path_factory.mktemp("tickets") / "judging.mirl"
    judging = replace(mirl.load(), windows=Windows(64, 8), haze_head=make_head(seed=3, low=0.0, high=1.0))
    path.write_bytes(encode_ticket(judging))
    return path


def choose(page: Page, settings: dict[str, Any]) -> None:
    page.get_by_label({"auto": "Automatic", "keep": "Keep"}[settings.get("tone", "auto")], exact=True).check()
    for name in ("strength", "denoise", "dehaze"):
        if name != "dehaze" or "tone" not in settings:
            set_range(page, f"#{name}", round(100 * settings.get(name, 1)))


def haze_in(image: Image.Image, ticket: Path) -> float:
    head = mirl.load(ticket).haze_head
    assert head
    seen = amount_of_haze(np.asarray(image, np.float32) / 255, head)
    assert 0.05 < seen < 0.95, "a head that is sure tests nothing"
    return seen


@pytest.mark.parametrize("place", ["In this browser", "On the server"])
def test_settings_work_without_another_run_and_give_what_python_gives(page, service, ticket, place):
    hazy, posts = photo(201, 149, 1, "dehaze"), []
    page.on("request", lambda made: posts.append(made.url) if made.method == "POST" else None)
    page.goto(service)
    page.get_by_label(place).check()
    expect(page.locator("#haze-seen")).to_have_text("Haze seen: known once restored")
    drop(page, a__png=encoded(hazy))
    wait_done(page, "a.png")
    expect(page.locator("#haze-seen")).to_have_text(f"Haze seen: {round(100 * haze_in(hazy, ticket))} %")
    told, results = row(page, "a.png").locator(".state").text_content(), []
    for settings in SETTINGS:
        choose(page, settings)
        expected = mirl.restore(hazy, mirl.load(ticket), **settings)
        results.append(np.asarray(expected).astype(int))
        assert difference(saved(page, "a.png")[1], expected) <= (place == "In this browser"), settings
        apart = np.abs(shown(page)[..., :3] - results[-1])
        assert apart.max() <= (1 if place == "In this browser" else 12), settings
        assert apart.mean() < 0.5, settings
    assert min(np.abs(results[0] - other).mean() for other in results[1:]) > 1, "settings that change nothing test nothing"
    assert row(page, "a.png").locator(".state").text_content() == told
    assert len(posts) == (0 if place == "In this browser" else len(SETTINGS))


def test_keep_rules_the_slider_out_and_both_are_said(page, static_site):
    page.goto(static_site)
    dehaze, keep = page.locator("#dehaze"), page.get_by_label("Keep", exact=True)
    set_range(page, "#dehaze", 30)
    expect(page.locator("#dehaze-now")).to_have_text("30 %")
    expect(dehaze).to_have_attribute("aria-valuetext", "30 %")
    keep.check()
    expect(dehaze).to_be_disabled()
    page.get_by_label("Automatic", exact=True).check()
    expect(dehaze).to_be_enabled()
    expect(dehaze).to_have_value("30")
    keep.focus()
    page.keyboard.press("Space")
    expect(dehaze).to_be_disabled()


def test_each_photograph_says_its_own_haze(page, static_site, ticket):
    images = {"hazy.png": photo(120, 90, 1, "dehaze"), "rainy.png": photo(90, 120)}
    page.goto(static_site)
    drop(page, **{name.replace(".", "__"): encoded(image) for name, image in images.items()})
    wait_done(page, "rainy.png")
    for name, image in images.items():
        row(page, name).locator(".pick").click()
        expect(page.locator("#haze-seen")).to_have_text(f"Haze seen: {round(100 * haze_in(image, ticket))} %")
    for name in images:
        row(page, name).locator(".remove").click()
    expect(page.locator("#haze-seen")).to_have_text("Haze seen: known once restored")


@pytest.mark.parametrize("place", ["In this browser", "On the server"])
def test_a_network_that_does_not_judge_haze_says_so(page, tmp_path, place):
    with served(make_loud(tmp_path / "plain.mirl")) as address:
        page.goto(address)
        page.get_by_label(place).check()
        drop(page, a__png=encoded(photo(60, 40)))
        wait_done(page, "a.png")
        expect(page.locator("#haze-seen")).to_have_text("Haze seen: not judged by this network")


def test_service_takes_the_same_settings_as_python(service, ticket):
    hazy = photo(90, 70, 1, "dehaze")
    for settings in SETTINGS:
        answer = httpx.post(f"{service}v1/restore", params=settings, content=encoded(hazy))
        assert difference(answer.content, mirl.restore(hazy, mirl.load(ticket), **settings)) == 0
        assert float(answer.headers["Mirl-Haze"]) == pytest.approx(haze_in(hazy, ticket), abs=1e-4)


@pytest.mark.parametrize("width", [320, 1280])
def test_accessible_with_tone_kept(browser, service, width):
    page = browser.new_page(viewport={"width": width, "height": 800})
    page.goto(service)
    page.get_by_label("Keep", exact=True).check()
    drop(page, a__png=encoded(photo(60, 40)))
    wait_done(page, "a.png")
    found = Axe().run(page)
    assert found.violations_count == 0, found.generate_report()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.close()
