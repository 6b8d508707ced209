"""The page in headless Chromium: photographs restored in the browser and by the real service, as Python restores them."""

import json
import re
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
from axe_playwright_python.sync_playwright import Axe
from PIL import Image
from playwright.sync_api import expect
from sites import (
    difference,
    drop,
    encoded,
    huge_png,
    make_loud,
    photo,
    pixels,
    row,
    saved,
    set_range,
    wait_done,
)

import mirl

COLD_SECONDS, PAGE_BYTES = 10, 2_500_000


pytest_plugins = ["pages"]


@pytest.fixture(scope="module")
def ticket(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_loud(tmp_path_factory.mktemp("tickets") / "small-random.mirl")


@pytest.mark.parametrize("where", ["service", "static_site"])
def test_rainy_photo_dropped_comes_back_as_python_restores_it(page, ticket, where, request, record_property):
    address = request.getfixturevalue(where)
    rainy, sizes, methods = photo(), [], set()
    page.on("request", lambda made: methods.add((made.method, made.url.startswith((address, "blob:")))))
    page.on("response", lambda got: sizes.append(len(got.body())))
    began = perf_counter()
    page.goto(address)
    drop(page, rainy__png=encoded(rainy))
    wait_done(page, "rainy.png")
    seconds = perf_counter() - began
    expected = mirl.restore(rainy, mirl.load(ticket))
    name, content = saved(page, "rainy.png")
    found = difference(content, expected)
    record_property("figures", {"where": where, "seconds": seconds, "bytes": sum(sizes), "levels": found})
    print(f"{where}: cold {seconds:.2f} s, {sum(sizes)} bytes in {len(sizes)} answers, difference {found}/255")
    assert name == "rainy-restored.png"
    assert found <= 1
    assert np.abs(pixels(content) - np.asarray(rainy)).max() > 20, "a network that does nothing tests nothing"
    assert methods == {("GET", True)}, "nothing is sent away"
    assert seconds < COLD_SECONDS
    assert sum(sizes) < PAGE_BYTES
    assert len(sizes) >= 12, "the answers were not counted"
    expect(page.locator("#privacy")).to_have_text("Nothing leaves this device")
    assert page.locator("#places").is_visible() == (where == "service")


@pytest.mark.parametrize("place", ["In this browser", "On the server"])
def test_strength_blends_without_another_run(page, service, ticket, place):
    rainy, posts = photo(200, 150), []
    page.on("request", lambda made: posts.append(made.url) if made.method == "POST" else None)
    page.goto(service)
    page.get_by_label(place).check()
    drop(page, a__png=encoded(rainy))
    wait_done(page, "a.png")
    told = row(page, "a.png").locator(".state").text_content()
    for strength in (1, 0.35, 0):
        set_range(page, "#strength", round(100 * strength))
        expect(page.locator("#strength-now")).to_have_text(f"{round(100 * strength)} %")
        expected = mirl.restore(rainy, mirl.load(ticket), strength=strength)
        assert difference(saved(page, "a.png")[1], expected) <= (strength > 0 and place == "In this browser")
    assert row(page, "a.png").locator(".state").text_content() == told
    strengths = [re.search(r"strength=([\d.]+)", url)[1] for url in posts]
    assert strengths == ([] if place == "In this browser" else ["1", "0.35", "0"])


def test_server_keeps_format_and_metadata_and_the_page_says_where_photos_go(page, service, ticket):
    exif = Image.Exif()
    exif[0x010E] = "a caption"
    page.goto(service)
    page.get_by_label("On the server").check()
    expect(page.locator("#privacy")).to_have_text("Photographs are sent to the server")
    drop(page, beach__jpg=encoded(photo(160, 120), "JPEG", exif=exif, quality=92), scan__tif=encoded(photo(90, 60), "TIFF"))
    wait_done(page, "beach.jpg")
    wait_done(page, "scan.tif")
    name, content = saved(page, "beach.jpg")
    (ticket.parent / "beach.jpg").write_bytes(content)
    with Image.open(ticket.parent / "beach.jpg") as image:
        assert (name, image.format, image.getexif()[0x010E]) == ("beach-restored.jpg", "JPEG", "a caption")
    name, content = saved(page, "scan.tif")
    assert (name, difference(content, mirl.restore(photo(90, 60), mirl.load(ticket)))) == ("scan-restored.tif", 0)
    row(page, "scan.tif").locator(".pick").click()
    expect(page.locator("#veil")).to_contain_text("cannot show it")


def test_bad_files_say_what_is_wrong_and_stop_no_other(page, static_site):
    good = encoded(photo(120, 90))
    moving = encoded(Image.new("RGB", (20, 20)), "WEBP", save_all=True, append_images=[Image.new("RGB", (20, 20), "red")])
    page.goto(static_site)
    drop(
        page, first__png=good, text__jpg=b"this is no photograph", empty__png=b"", half__png=good[: len(good) // 3],
        huge__png=huge_png(), moving__webp=moving, last__png=good,
    )  # fmt: skip
    wait_done(page, "last.png")
    messages = {"text.jpg": "not a photograph", "empty.png": "empty", "half.png": "damaged", "huge.png": "400 megapixels",
                "moving.webp": "animation"}  # fmt: skip
    for name, message in messages.items():
        expect(row(page, name).locator(".state")).to_contain_text(message)
        assert row(page, name).locator(".download").is_hidden()
    wait_done(page, "first.png")
    row(page, "huge.png").locator(".pick").click()
    expect(page.locator("#veil")).to_contain_text("Too large: 20000 × 20000")
    assert page.locator("#divide").is_disabled()


def test_server_errors_come_as_the_server_says_them(browser, service):
    page = browser.new_page()  # whose console may name the errors
    page.goto(service)
    page.get_by_label("On the server").check()
    answers = [(503, {"Retry-After": "0"}, {"code": "busy", "message": "wait"}),
               (422, {}, {"code": "image_bits", "message": "the image has odd samples"})]  # fmt: skip

    def refuse(route):
        status, headers, error = answers.pop(0)
        route.fulfill(status=status, headers=headers, content_type="application/json", body=json.dumps({"error": error}))

    page.route("**/v1/restore*", refuse, times=2)
    drop(page, a__png=encoded(photo(40, 30)), b__png=encoded(photo(40, 30)))
    wait_done(page, "b.png")
    expect(row(page, "a.png").locator(".state")).to_have_text("The image has odd samples.")
    assert answers == []
    page.close()


def test_cancel_stops_a_photo_and_the_next_goes_on(page, static_site):
    page.goto(static_site)
    drop(page, large__png=encoded(photo(1800, 1200)), next__png=encoded(photo(100, 70)))
    expect(row(page, "large.png")).to_have_class(re.compile("working"))
    page.get_by_role("button", name="Cancel: large.png").click()
    wait_done(page, "next.png", 10)
    expect(row(page, "large.png").locator(".state")).to_have_text("Cancelled")
    row(page, "next.png").locator(".remove").click()
    expect(page.locator("#queue li")).to_have_count(1)


@pytest.mark.parametrize("options", [{"window": 96}, {"window": 0, "tile": 96}])
def test_several_workers_give_the_bits_of_one_and_python_the_same_picture(page, static_site, ticket, options):
    rainy = photo(300, 200)
    page.goto(static_site)
    answers = page.evaluate(
        """async ([bytes, url, options]) => {
          const { BrowserEngine } = await import("./engine.js"), { decode } = await import("./photo.js");
          const { render } = await import("./change.js");
          const image = await decode(new Blob([new Uint8Array(bytes)])), results = [], told = [];
          for (const most of [1, 3]) {
            const engine = new BrowserEngine(most), onProgress = (share) => told.push(share);
            results.push(await engine.restore(image, url, { ...options, onProgress }));
            engine.close();
          }
          const [a, b] = results.map(({ steps }) => steps);
          const same = a.every((value, index) => value === b[index]);
          return { same, data: [...render(image, results[1], {}).data], told };
        }""",
        [list(encoded(rainy)), f"{static_site}v1/tickets/{ticket.stem}.mirl", options],
    )
    found = np.array(answers["data"]).reshape(200, 300, 4)
    expected = np.asarray(mirl.restore(rainy, mirl.load(ticket), **options)).astype(int)
    assert answers["same"]
    assert np.abs(found[..., :3] - expected).max() <= 1
    all_told = len(answers["told"]) // 2
    assert all_told > 6
    assert answers["told"] == [(n + 1) / all_told for n in range(all_told)] * 2


def test_pixels_orientation_transparency_and_format_survive(page, static_site):
    rng = np.random.default_rng(1)
    noise = Image.fromarray(rng.integers(0, 256, (61, 83, 3), np.uint8))
    clear = Image.fromarray(rng.integers(0, 256, (40, 50, 4), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = encoded(photo(120, 80), "JPEG", exif=exif, quality=95)
    page.goto(static_site)
    set_range(page, "#strength", 0)
    drop(page, noise__png=encoded(noise), clear__png=encoded(clear), turned__jpg=turned,
         web__webp=encoded(noise, "WEBP", lossless=True))  # fmt: skip
    for name in ("noise.png", "clear.png", "turned.jpg", "web.webp"):
        wait_done(page, name)
    assert difference(saved(page, "noise.png")[1], noise) == 0
    found = pixels(saved(page, "clear.png")[1])
    assert np.array_equal(found[..., 3], np.asarray(clear)[..., 3])
    opaque = np.asarray(clear)[..., 3] == 255
    assert np.abs(found - np.asarray(clear))[opaque].max(initial=0) == 0
    name, content = saved(page, "turned.jpg")
    assert name == "turned-restored.jpg"
    upright = np.asarray(photo(120, 80).transpose(Image.Transpose.ROTATE_270)).astype(int)
    assert pixels(content).shape == upright.shape
    assert np.abs(pixels(content) - upright).mean() < 12, "a photo turned wrongly differs by far more"
    assert saved(page, "web.webp")[0] == "web-restored.webp"


def test_old_pictures_are_packed_away_and_come_back_unchanged(page, static_site):
    page.goto(static_site)
    found = page.evaluate(
        """async (files) => {
          const { Pictures } = await import("./pictures.js"), { decode } = await import("./photo.js");
          const { changeBetween } = await import("./change.js");
          const pictures = new Pictures(5000), items = files.map((bytes) => ({ file: new Blob([new Uint8Array(bytes)]) }));
          const images = await Promise.all(items.map(({ file }) => decode(file)));
          const changes = images.map((image, i) => changeBetween(image, images[(i + 1) % images.length], i / 4));
          items.forEach((item, i) => pictures.put(item, images[i], changes[i]));
          const kept = pictures.kept.size, got = await Promise.all(items.map((item) => pictures.get(item)));
          const equal = (a, b) => a.length === b.length && a.every((value, index) => value === b[index]);
          pictures.drop(items[0]);
          const unchanged = ({ before, change }, i) => equal(before.data, images[i].data) && change.haze === i / 4
            && equal(change.steps, changes[i].steps) && equal(change.parts.own.shift, changes[i].parts.own.shift);
          return { kept, gone: (await pictures.get(items[0])) === undefined, same: got.map(unchanged) };
        }""",
        [list(encoded(photo(60, 40, which))) for which in range(4)],
    )
    assert found == {"kept": 2, "gone": True, "same": [True] * 4}


def test_keyboard_alone_does_everything(page, static_site, tmp_path):
    (tmp_path / "beach.png").write_bytes(encoded(photo(300, 200)))
    page.on("filechooser", lambda chooser: None)  # choosers are caught from now on, not only some time after Enter
    page.goto(static_site)

    def tab_to(selector: str, presses: int = 30) -> None:
        for _ in range(presses):
            page.keyboard.press("Tab")
            if page.evaluate("(selector) => document.activeElement.matches(selector)", selector):
                return
        raise AssertionError(f"Tab never reaches {selector}")

    tab_to("#choose")
    with page.expect_file_chooser() as waiting:
        page.keyboard.press("Enter")
    waiting.value.set_files(tmp_path / "beach.png")
    wait_done(page, "beach.png")
    expect(page.locator("#live")).to_contain_text("beach.png: Restored in this browser")
    tab_to("#stage")
    page.keyboard.press("1")
    expect(page.locator("#zoom-now")).to_have_text("100 %")
    page.keyboard.press("+")
    page.keyboard.press("+")
    page.keyboard.press("+")
    expect(page.locator("#zoom-now")).to_have_text("195 %")
    place = "getComputedStyle(document.getElementById('picture')).transform"
    page.keyboard.press("0")
    fitted = page.evaluate(place)
    for _ in range(8):
        page.keyboard.press("+")
    before = page.evaluate(place)
    page.keyboard.press("ArrowRight")
    assert page.evaluate(place) != before != fitted
    tab_to("#divide")
    clip = "document.getElementById('after').style.clipPath"
    before = page.evaluate(clip)
    page.keyboard.press("End")
    assert page.evaluate(clip) != before
    tab_to("#save")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "beach-restored.png"
    tab_to("#strength")
    page.keyboard.press("Home")
    expect(page.locator("#strength-now")).to_have_text("0 %")
    tab_to("#queue .download")
    with page.expect_download() as download:
        page.keyboard.press("Enter")
    assert download.value.suggested_filename == "beach-restored.png"
    tab_to("#queue .remove")
    page.keyboard.press("Space")
    expect(page.locator("#queue li")).to_have_count(0)
    assert page.evaluate("document.activeElement.id") == "add", "focus is not lost"
    expect(page.locator("#live")).to_have_text("beach.png removed")


def test_the_mouse_drags_the_divider_and_the_photograph(page, static_site):
    page.goto(static_site)
    drop(page, a__png=encoded(photo(300, 200)))
    wait_done(page, "a.png")

    def drag(x: float, y: float, dx: float, dy: float = 0) -> None:
        page.mouse.move(x, y)
        page.mouse.down()
        page.mouse.move(x + dx / 2, y + dy / 2)
        page.mouse.move(x + dx, y + dy)
        page.mouse.up()

    def middle() -> tuple[float, float]:
        box = page.locator("#divider").bounding_box()
        return box["x"] + box["width"] / 2, box["y"] + box["height"] / 2

    clip = "Number(document.getElementById('after').style.clipPath.match(/([\\d.]+)px\\)/)[1])"
    x, y = middle()
    before, scale = page.evaluate(clip), page.locator("#after").bounding_box()["width"] / 300
    drag(x, y, -60)
    assert middle() == pytest.approx((x - 60, y), abs=1)
    assert page.evaluate(clip) == pytest.approx(before - 60 / scale, abs=1)
    drag(*middle(), -2000)
    assert page.evaluate(clip) == pytest.approx(0, abs=1)
    expect(page.locator("#divide")).to_have_value("0")
    page.locator("#stage").focus()
    for _ in range(8):
        page.keyboard.press("+")
    place = "new DOMMatrix(getComputedStyle(document.getElementById('picture')).transform)"
    at = f"[{place}.e, {place}.f]"
    left, top = page.evaluate(at)
    drag(x, y, 25, -15)
    assert page.evaluate(at) == pytest.approx([left + 25, top - 15], abs=1)


def test_paste_choose_and_download_all(page, static_site):
    page.goto(static_site)
    page.locator("#files").set_input_files(
        [{"name": "a.png", "mimeType": "image/png", "buffer": encoded(photo(50, 40))}] * 2
    )
    page.evaluate(
        """(bytes) => {
          const transfer = new DataTransfer();
          transfer.items.add(new File([new Uint8Array(bytes)], "image.png", { type: "image/png" }));
          document.dispatchEvent(new ClipboardEvent("paste", { clipboardData: transfer, bubbles: true }));
        }""",
        list(encoded(photo(30, 20))),
    )
    for name in ("a.png", "a-2.png", "image.png"):
        wait_done(page, name)
    names: list[str] = []
    page.on("download", lambda download: names.append(download.suggested_filename))
    page.get_by_role("button", name="Download all").click()
    expect(page.locator("#live")).to_have_text("image-restored.png saved")
    page.wait_for_timeout(300)
    assert sorted(names) == ["a-2-restored.png", "a-restored.png", "image-restored.png"]


def test_a_page_that_is_loaded_again_says_what_its_sliders_stand_at(page, static_site):
    page.goto(static_site)
    strength = page.locator("#strength")
    strength.fill("40")
    expect(page.locator("#strength-now")).to_have_text("40 %")
    page.wait_for_load_state("networkidle")  # what a reload or the end of the test interrupts counts as failed
    page.reload()
    page.wait_for_load_state("networkidle")
    stands = strength.input_value()  # a browser may keep it or not
    expect(page.locator("#strength-now")).to_have_text(f"{stands} %")
    expect(strength).to_have_attribute("aria-valuetext", f"{stands} %")


def test_without_tickets_the_page_says_so(page, static_site):
    page.route("**/v1/tickets.json", lambda route: route.fulfill(status=200, body='{"default": "", "tickets": []}'))
    page.goto(static_site)
    expect(page.locator("#places-help")).to_contain_text("No ticket can be loaded")
    drop(page, a__png=encoded(photo(20, 20)))
    expect(row(page, "a.png").locator(".state")).to_contain_text("reload the page")


@pytest.mark.parametrize("colours", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 390, 1280])
def test_accessible_and_nothing_jumps_or_overflows(browser, service, colours, width):
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=colours)
    page = context.new_page()
    page.goto(service)
    expect(page.locator("#ticket")).to_be_enabled()
    box = "(({ offsetTop, offsetLeft, offsetWidth, offsetHeight }) => [offsetTop, offsetLeft, offsetWidth, offsetHeight])"
    place = f"{box}(document.getElementById('stage'))"
    stage = page.evaluate(place)
    violations = {"empty": Axe().run(page)}
    drop(page, good__png=encoded(photo(300, 200)), a_quite_long_name_that_must_not_widen_the_page__jpg=b"bad")
    wait_done(page, "good.png")
    expect(page.locator("#queue li.failed")).to_have_count(1)
    page.locator("#format").select_option("jpeg")
    expect(page.locator("#quality")).to_be_visible()
    violations["restored"] = Axe().run(page)
    assert page.evaluate(place) == stage
    page.locator("#queue li.failed .pick").click()
    violations["failed"] = Axe().run(page)
    assert page.evaluate(place) == stage
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    for state, found in violations.items():
        assert found.response["passes"], "axe did not run"
        assert found.violations_count == 0, f"{state}: {found.generate_report()}"
    context.close()
