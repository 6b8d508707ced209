"""Take the pictures of the page in results/screenshots, with a real ticket, to be looked at.

python tests/browser/screenshots.py TICKET.mirl
"""

import io
import sys
from pathlib import Path

from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright
from sites import drop, encoded, launch, photo, row, served, wait_done

OUT = Path(__file__).parents[2] / "results" / "screenshots"
MOST_BYTES = 150_000


def shoot(page: Page, name: str) -> None:
    """Save what is seen with as many colours as fit."""
    shot = Image.open(io.BytesIO(page.screenshot())).convert("RGB")
    for colours in (256, 128, 64, 32, 16):
        content = encoded(shot.quantize(colours, dither=Image.Dither.NONE), optimize=True)
        if len(content) < MOST_BYTES:
            break
    else:
        raise SystemExit(f"{name}: {len(content)} bytes, expected fewer than {MOST_BYTES}")
    (OUT / f"{name}.png").write_bytes(content)
    print(f"{name}: {len(content)} bytes, {colours} colours")


def visit(page: Page, address: str, name: str) -> None:
    """Take the empty page and the one with restored photographs, of which one fails."""
    page.goto(address)
    expect(page.locator("#ticket")).to_be_enabled()
    shoot(page, f"{name}-empty")
    photos = {"roman_wall__png": photo(640, 427, 1, "dehaze"), "otters__png": photo(480, 320, 0, "derain")}
    drop(page, **{each: encoded(image) for each, image in photos.items()}, notes__jpg=b"text")
    wait_done(page, "otters.png")
    wait_done(page, "roman_wall.png")
    shoot(page, f"{name}-restored")
    page.locator("#format").select_option("jpeg")
    page.locator("#format").scroll_into_view_if_needed()
    shoot(page, f"{name}-settings")
    page.evaluate("scrollTo(0, 0)")
    row(page, "notes.jpg").locator(".pick").click()
    page.locator("#queue li.failed").scroll_into_view_if_needed()
    shoot(page, f"{name}-failed")


def main(ticket: Path) -> None:
    """Take all pictures."""
    OUT.mkdir(parents=True, exist_ok=True)
    with sync_playwright() as playwright, served(ticket) as address:
        browser = launch(playwright)
        for name, colours, size in [
            ("light", "light", (1120, 720)),
            ("dark", "dark", (1120, 720)),
            ("phone", "light", (390, 844)),
        ]:
            context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=colours)  # type: ignore[arg-type]
            visit(context.new_page(), address, name)
            context.close()
        browser.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
