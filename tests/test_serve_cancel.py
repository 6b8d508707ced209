"""Work that nobody waits for any more stops at the next tile: over a socket, with the native engine, its tiles counted."""

import asyncio
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import numpy as np
import pytest
import uvicorn
from PIL import Image

from mirl.engine.engine import open_backend, restore_pixels
from mirl.engine.options import Options
from mirl.image import read_photo
from mirl.serve.app import PhotoResponse, Settings, create_app
from mirl.serve.pool import Pool
from mirl.serve.shelf import Shelf
from mirl.serve.work import Answer
from mirl.windows import WHOLE
from test_serve_api import OFFER, encoded, pixels, refused
from test_serve_process import places, wait_for

PHOTO = encoded("PNG", Image.fromarray(np.random.default_rng(2).integers(0, 256, (200, 260, 3), dtype=np.uint8)))
TILES = 3 * 4  # of 128 pixels that share at least 64; each is run twice, its sums first


class Counted:
    """The native engine with room for small tiles alone; it stays in tile number `hold` until `go`."""

    name, bytes_per_pixel = "counted", 1e6
    windows, haze_head = WHOLE, None

    def __init__(self):
        self.engine = open_backend(OFFER.ticket, "native", threads=1)
        self.tiles, self.hold = 0, 0
        self.reached, self.go = threading.Event(), threading.Event()

    def count(self) -> None:
        self.tiles += 1
        if self.tiles == self.hold:
            self.reached.set()
            assert self.go.wait(30)

    def forward(self, pixels):
        self.count()
        return self.engine.forward(pixels)

    def shared_statistics(self, tiles, on_tile):
        def counted(done: int) -> None:
            self.count()
            on_tile(done)

        return self.engine.shared_statistics(tiles, counted)


@pytest.fixture
def backend(monkeypatch):
    backend = Counted()
    monkeypatch.setattr(Shelf, "open", lambda self, offer: backend)
    yield backend
    backend.go.set()


@contextmanager
def serving(**limits: float) -> Iterator[tuple[str, int]]:
    """Serve on a socket of this process, in a thread, and give the address."""
    app = create_app(Shelf([OFFER]), Settings(**{"workers": 1, "queue": 4, **limits}), {})
    server = uvicorn.Server(uvicorn.Config(app, http="h11", lifespan="on", log_config=None))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            host, port = listener.getsockname()
            wait_for(lambda: server.started and httpx.get(f"http://{host}:{port}/readyz").status_code == 200)
            yield host, port
        finally:
            server.should_exit = True
            thread.join()


@contextmanager
def asking(address: tuple[str, int]) -> Iterator[None]:
    """Send the photo, and leave at the end of the block without reading the answer."""
    with socket.create_connection(address) as client:
        head = f"POST /v1/restore HTTP/1.1\r\nHost: mirl\r\nContent-Length: {len(PHOTO)}\r\n\r\n"
        client.sendall(head.encode() + PHOTO)
        yield


def abandoned(url: str, why: str) -> int:
    line = f'mirl_abandoned_total{{why="{why}"}} '
    found = [text for text in httpx.get(f"{url}/metrics").text.splitlines() if text.startswith(line)]
    return int(float(found[0].removeprefix(line))) if found else 0


def test_a_photo_that_is_waited_for_takes_all_its_tiles_and_is_right(backend):
    with serving() as (host, port):
        answer = httpx.post(f"http://{host}:{port}/v1/restore", content=PHOTO)
    assert answer.status_code == 200
    assert backend.tiles == 2 * TILES
    expected = restore_pixels(backend.engine, read_photo(PHOTO).pixels, Options(tile=128))
    np.testing.assert_array_equal(pixels(answer.content), np.rint(expected * 255))


@pytest.mark.parametrize("tile", [1, TILES, TILES + 2], ids=["first", "end of first pass", "second pass"])
def test_when_the_client_leaves_no_later_tile_is_run(backend, tile):
    backend.hold = tile
    with serving() as address:
        url = "http://{}:{}".format(*address)
        with asking(address):
            assert backend.reached.wait(30)
        wait_for(lambda: abandoned(url, "left") == 1)
        assert places(url) == 1, "a photo counts as long as it costs"
        backend.go.set()
        wait_for(lambda: places(url) == 0)
        assert backend.tiles == tile
        assert httpx.post(f"{url}/v1/restore", content=PHOTO).status_code == 200
    assert backend.tiles == tile + 2 * TILES


@pytest.mark.parametrize("tile", [1, TILES + 2], ids=["first pass", "second pass"])
def test_when_the_time_is_over_no_later_tile_is_run(backend, tile):
    backend.hold = tile
    with serving(seconds=2) as address:
        url = "http://{}:{}".format(*address)
        began = time.monotonic()
        refused(httpx.post(f"{url}/v1/restore", content=PHOTO, timeout=30), 504, "time_limit")
        assert time.monotonic() - began < 10
        assert backend.reached.is_set()
        assert (abandoned(url, "late"), places(url)) == (1, 1)
        backend.go.set()
        wait_for(lambda: places(url) == 0)
    assert backend.tiles == tile


def sent(content: bytes, pool: Pool, seconds: float, takes: int) -> list[tuple[int, int]]:
    """Send an answer to a reader that takes so many messages, then none: size of each body, places taken as it came."""
    taken: list[tuple[int, int]] = []

    async def send(message):
        if len(taken) == takes:
            await asyncio.sleep(60)
        taken.append((len(message.get("body", b"")), pool.taken))

    async def receive():
        raise AssertionError("nothing more is read")

    response = PhotoResponse(Answer(content, "BMP", 1.0), pool.enter(), seconds)
    scope = {"type": "http", "state": {"facts": {}}}
    began = time.monotonic()
    asyncio.run(response(scope, receive, send))
    assert time.monotonic() - began < 30
    if len(taken) == takes:
        assert scope["state"]["facts"] == {"code": "slow_download"}
    assert pool.taken == 0
    return taken


def test_an_answer_is_sent_in_pieces_and_keeps_its_place_until_the_last():
    taken = sent(bytes(600_000), Pool(1, 0), 10, 99)
    assert taken == [(0, 1), (262_144, 1), (262_144, 1), (600_000 - 2 * 262_144, 0)]
    assert sent(b"x", Pool(1, 0), 10, 99) == [(0, 1), (1, 0)]


def test_a_slow_reader_keeps_its_place_until_the_time_is_over():
    assert sent(bytes(10_000_000), Pool(1, 0), 0.2, 3) == [(0, 1), (262_144, 1), (262_144, 1)]


def test_a_photo_that_waits_for_a_worker_never_begins_once_its_client_left(backend):
    backend.hold = 1
    with serving() as address, asking(address):
        url = "http://{}:{}".format(*address)
        assert backend.reached.wait(30)
        with asking(address):
            wait_for(lambda: places(url) == 2)
        wait_for(lambda: places(url) == 1)
        backend.go.set()
        wait_for(lambda: places(url) == 0)
    assert backend.tiles == 2 * TILES, "the first photo's alone"
