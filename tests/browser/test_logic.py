"""The page's logic under node, and its files: what is served is small, complete and self-contained."""

import base64
import json
import os
import re
import subprocess
from pathlib import Path

from PIL import Image
from sites import encoded

from conftest import make_ticket
from mirl.serve.shelf import read_offers
from mirl.serve.site import files, write
from mirl.ticket import SHIPPED, encode_ticket, read_ticket
from wasm_jobs import node

HERE = Path(__file__).parent


def test_logic_of_queue_names_and_headers(tmp_path):
    image, clear = Image.new("RGB", (70, 30), "teal"), Image.new("RGBA", (70, 30), (1, 2, 3, 4))
    exif = Image.Exif()
    exif[0x010E] = "x" * 3000
    two = {"save_all": True, "append_images": [Image.new("RGB", (70, 30), "red")]}
    cases = [
        ("png", encoded(image), "image/png", 70, 30, False),
        ("palette", encoded(image.convert("P")), "image/png", 70, 30, False),
        ("apng", encoded(image, **two), "image/png", 70, 30, True),
        ("jpeg", encoded(image, "JPEG"), "image/jpeg", 70, 30, False),
        ("progressive", encoded(image, "JPEG", progressive=True, exif=exif), "image/jpeg", 70, 30, False),
        ("grey", encoded(image.convert("L"), "JPEG"), "image/jpeg", 70, 30, False),
        ("webp", encoded(image, "WEBP"), "image/webp", 70, 30, False),
        ("lossless", encoded(image, "WEBP", lossless=True), "image/webp", 70, 30, False),
        ("clear", encoded(clear, "WEBP"), "image/webp", 70, 30, False),
        ("moving", encoded(image, "WEBP", **two), "image/webp", 70, 30, True),
        ("gif", encoded(image, "GIF"), "image/gif", 70, 30, True),
        ("bmp", encoded(image, "BMP"), "image/bmp", 70, 30, False),
        ("tiff", encoded(image, "TIFF"), "image/tiff", 0, 0, False),
        ("avif", b"\0\0\0\x1cftypavif\0\0\0\0", "image/avif", 0, 0, False),
        ("heic", b"\0\0\0\x18ftypheic\0\0\0\0", "image/heic", 0, 0, False),
    ]
    listed = [
        {"name": name, "base64": base64.b64encode(content).decode(),
         "expected": {"type": kind, "width": width, "height": height, "animated": animated}}
        for name, content, kind, width, height, animated in cases
    ]  # fmt: skip
    others = (b"", b"x", b"<svg/>", b"%PDF-1.7", b"\0" * 64)
    listed += [{"name": "none", "base64": base64.b64encode(content).decode(), "expected": None} for content in others]
    (tmp_path / "cases.json").write_text(json.dumps(listed))
    command = [node(), "--no-warnings", "--test", HERE / "logic.test.mjs"]
    environment = os.environ | {"CASES": str(tmp_path / "cases.json")}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "# pass 10" in done.stdout or "ℹ pass 10" in done.stdout


def test_page_names_only_its_own_files_and_obeys_the_policy():
    site = files()
    assert {"/", "/app.js", "/worker.js", "/style.css", "/mirl.js", "/ticket.js", "/tiles.js", "/mirl.wasm", "/icon.svg",
            "/mirl-relaxed.wasm"} <= set(site)  # fmt: skip
    assert sum(len(file.content) for file in site.values()) < 300_000
    page = site["/"].content.decode()
    assert not re.search(r"<style|\sstyle=|\son\w+=|<script(?![^>]*\ssrc=)", page), "inline code is refused by the policy"
    named = {f"/{name}" for name in re.findall(r'(?:src|href)="([^"]*)"', page)}
    for path, file in site.items():
        if path.endswith(".js"):
            text = file.content.decode()
            named |= {f"/{name}" for name in re.findall(r'from "\./([^"]+)"', text)}
            assert not re.search(r"https?://", text), path
            assert path in ("/mirl.js",) or len(text.splitlines()) < 300
    assert named <= set(site)


def test_static_page_is_complete_and_lists_its_tickets(tmp_path):
    (tmp_path / "rain.mirl").write_bytes(encode_ticket(make_ticket()))
    written = write(tmp_path / "site", read_offers([tmp_path / "rain.mirl"]))
    assert {path.relative_to(tmp_path / "site").as_posix() for path in written} == (
        {path[1:] or "index.html" for path in files()}
        | {"v1/tickets.json", "v1/tickets/rain.mirl"}
        | {f"v1/tickets/{path.name}" for path in SHIPPED.glob("*.mirl")}
    )
    listing = json.loads((tmp_path / "site/v1/tickets.json").read_bytes())
    assert (listing["default"], [each["name"] for each in listing["tickets"]]) == (
        "rain",
        ["rain", *sorted(path.stem for path in SHIPPED.glob("*.mirl"))],
    )
    assert {"parameters", "nonzero", "density", "bytes", "tasks"} <= set(listing["tickets"][0])
    assert read_ticket(tmp_path / "site/v1/tickets/rain.mirl").tasks == ("derain",)
    page = (tmp_path / "site/index.html").read_text()
    assert 'content="v1/tickets.json"' in page
    assert 'name="mirl-restore" content=""' in page
    assert page.index('<meta http-equiv="Content-Security-Policy" content="default-src') < page.index("<link")
    assert len(written) == len(set(written))
