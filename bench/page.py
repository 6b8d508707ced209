"""The page, cold: from an empty browser profile to the first restored photograph, and what was loaded for it.

    python bench/page.py [--runs 7] [--json results/page.json]

The ticket of the package, small; a rainy PNG of 481x321 pixels; the service and headless Chromium on one machine with
loopback between them. `seconds_cold`: from opening the page to "Restored", with all downloads. `seconds_next`: the same
photograph once more in the same page. `levels` is the largest difference, in 1/255, of the saved PNG from what
`mirl.restore` gives.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path

import mirl
from mirl.evaluate.speed import machine
from mirl.files import write_json
from mirl.ticket import SHIPPED

sys.path.insert(0, str(Path(__file__).parents[1] / "tests" / "browser"))


def main() -> None:
    parser = argparse.ArgumentParser(description="Time the page in headless Chromium.")
    parser.add_argument("--runs", type=int, default=7)
    parser.add_argument("--json", type=Path, default=None)
    given = parser.parse_args()
    import numpy as np
    from playwright.sync_api import sync_playwright
    from sites import drop, encoded, launch, photo, pixels, row, saved, served, wait_done

    rainy, cold, following, sizes, levels = photo(), [], [], [], []
    with sync_playwright() as playwright:
        expected = np.asarray(mirl.restore(rainy, mirl.load())).astype(int)
        browser = launch(playwright)
        with served(SHIPPED / "small.mirl") as address:
            for _ in range(given.runs):
                context = browser.new_context()
                page, loaded = context.new_page(), [0]
                page.on("response", lambda got, loaded=loaded: loaded.append(len(got.body())))
                began = time.perf_counter()
                page.goto(address)
                drop(page, rainy__png=encoded(rainy))
                wait_done(page, "rainy.png")
                cold.append(time.perf_counter() - began)
                sizes.append(sum(loaded))
                began = time.perf_counter()
                row(page, "rainy.png").locator(".again").click()
                wait_done(page, "rainy.png")
                following.append(time.perf_counter() - began)
                levels.append(int(np.abs(pixels(saved(page, "rainy.png")[1]) - expected).max()))
                context.close()
        version = browser.version
        browser.close()
    result = {
        "command": f"python bench/page.py --runs {given.runs}",
        "machine": machine(),
        "ticket": "small, of the package",
        "ticket_bytes": (SHIPPED / "small.mirl").stat().st_size,
        "chromium": version,
        "size": [rainy.height, rainy.width],
        "runs": given.runs,
        "seconds_cold": {"median": statistics.median(cold), "min": min(cold), "max": max(cold)},
        "seconds_next": {"median": statistics.median(following), "min": min(following), "max": max(following)},
        "bytes": max(sizes),
        "levels": max(levels),
    }
    print(result)
    if given.json:
        write_json(given.json, result)


if __name__ == "__main__":
    main()
