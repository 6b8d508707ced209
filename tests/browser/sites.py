"""What the browser tests visit and drop: the real service, a plain web server with the static page, photographs."""

import base64
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Browser, BrowserContext, Locator, Page, Playwright, expect

from mirl.data.bundled import held_out_photos
from mirl.degrade.tasks import TASKS
from mirl.recipe import small_laboratory
from mirl.ticket import encode_ticket

SERVER_FOLDER = "gallery/restore"  # the static page lives below a path, as on GitHub Pages


def launch(playwright: Playwright) -> Browser:
    """Start Debian's Chromium, or the one that CHROMIUM names; skip without one (.ci/run installs it)."""
    found = os.environ.get("CHROMIUM") or shutil.which("chromium") or shutil.which("chromium-browser")
    if not found:
        if os.environ.get("MIRL_NEED_BROWSER"):
            pytest.fail("no Chromium, and MIRL_NEED_BROWSER asks for one: apt-get install chromium, or set CHROMIUM")
        pytest.skip("needs Chromium: apt-get install chromium")
    quiet = ["--no-sandbox", "--disable-background-networking", "--disable-component-update", "--force-color-profile=srgb"]
    return playwright.chromium.launch(executable_path=found, args=quiet)


@contextmanager
def watched(browser: Browser) -> Iterator[BrowserContext]:
    """A fresh profile: nothing cached. What the page logs as an error, or fails to load, fails the test."""
    context = browser.new_context(viewport={"width": 1280, "height": 860}, accept_downloads=True)
    context.set_default_timeout(30_000)
    problems: list[str] = []
    context.on("weberror", lambda error: problems.append(str(error.error)))
    context.on("console", lambda message: problems.append(message.text) if message.type in ("error", "warning") else None)
    context.on("requestfailed", lambda request: problems.append(f"{request.url}: {request.failure}"))
    yield context
    context.close()
    if found := [text for text in problems if "blob:" not in text]:
        pytest.fail(f"the page logged or failed to load: {found}")


def make_loud(path: Path, seed: int = 0) -> Path:
    """Write a ticket of a small network at a tenth of its weights, random, whose results differ much from the input."""
    from conftest import make_ticket  # which pytest finds; scripts that use the rest of this module do not

    random = make_ticket(small_laboratory().network, keep=0.1, seed=seed)
    louder = {"output.weight": 16 * random.weights["output.weight"]}
    path.write_bytes(encode_ticket(replace(random, weights=random.weights | louder)))
    return path


@contextmanager
def served(ticket: Path, *options: str) -> Iterator[str]:
    """Run `mirl serve` and give its address."""
    command = [sys.executable, "-m", "mirl", "serve", "--port", "0", "--ticket", str(ticket), *options]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    assert process.stdout
    try:
        address = process.stdout.readline().strip()
        assert address.startswith("http://127.0.0.1:"), address
        yield f"{address}/"
    finally:
        process.terminate()
        process.wait(20)
        process.stdout.close()


@contextmanager
def static(ticket: Path, folder: Path) -> Iterator[str]:
    """Write the page with `mirl serve --static-only` and send it with Python's own web server, below a path."""
    out = folder / SERVER_FOLDER
    command = [sys.executable, "-m", "mirl", "serve", "--ticket", str(ticket), "--static-only", str(out)]
    subprocess.run(command, check=True, capture_output=True)

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/{SERVER_FOLDER}/"
        finally:
            server.shutdown()
            thread.join()


def shown(page: Page) -> np.ndarray:
    """Return the pixels of the restored photograph on the stage, (h, w, 4)."""
    width, height, data = page.evaluate(
        """() => {
          const after = document.getElementById("after"), { width, height } = after;
          const copy = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
          copy.drawImage(after, 0, 0);
          return [width, height, [...copy.getImageData(0, 0, width, height).data]];
        }"""
    )
    return np.array(data).reshape(height, width, 4)


def photo(width: int = 481, height: int = 321, which: int = 0, task: str = "derain") -> Image.Image:
    """A degraded photograph that no ticket was trained on."""
    with Image.open(held_out_photos()[which]) as full:
        shrunk = full.convert("RGB").resize((width, height), Image.Resampling.LANCZOS)
    clean = np.asarray(shrunk, np.float32) / 255
    degraded = TASKS[task].degrade(clean, np.random.default_rng(7))
    return Image.fromarray(np.rint(degraded * 255).astype(np.uint8))


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = BytesIO()
    image.save(buffer, format, **options)  # type: ignore[arg-type]
    return buffer.getvalue()


def huge_png(side: int = 20_000) -> bytes:
    """A PNG of 400 megapixels in some 50 kB."""
    return encoded(Image.new("1", (side, side)), optimize=False)


def drop(page: Page, **contents: bytes) -> None:
    """Drop files on the stage as a hand does; `name__jpg` stands for name.jpg."""
    files = [
        {"name": name.replace("__", "."), "data": base64.b64encode(content).decode()} for name, content in contents.items()
    ]
    transfer = page.evaluate_handle(
        """async (files) => {
          const transfer = new DataTransfer(), types = { jpg: "image/jpeg", png: "image/png", webp: "image/webp" };
          for (const { name, data } of files)
            transfer.items.add(new File([Uint8Array.from(atob(data), (c) => c.charCodeAt(0))], name,
              { type: types[name.split(".").pop()] ?? "" }));
          return transfer;
        }""",
        files,
    )
    page.dispatch_event("#stage", "drop", {"dataTransfer": transfer})


def row(page: Page, name: str) -> Locator:
    """The list entry of a photograph."""
    return page.locator("#queue li").filter(has=page.get_by_text(name, exact=True))


def wait_done(page: Page, name: str, seconds: float = 60) -> None:
    expect(row(page, name).locator(".state")).to_contain_text("Restored", timeout=1000 * seconds)


def saved(page: Page, name: str) -> tuple[str, bytes]:
    """Press Download and return the name and the bytes of what comes."""
    with page.expect_download() as waiting:
        page.get_by_role("button", name=f"Download: {name}", exact=True).click()
    return waiting.value.suggested_filename, Path(waiting.value.path()).read_bytes()


def pixels(content: bytes) -> np.ndarray:
    with Image.open(BytesIO(content)) as image:
        return np.asarray(image).astype(int)


def difference(found: bytes, expected: Image.Image) -> int:
    """The largest difference, in levels of 255."""
    values = pixels(found)
    wanted = np.asarray(expected).astype(int)
    assert values.shape == wanted.shape
    return int(np.abs(values - wanted).max())


def set_range(page: Page, selector: str, value: float | str) -> None:
    page.locator(selector).fill(str(value))
