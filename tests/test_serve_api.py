"""The API as its clients see it: the same pixels as everywhere, limits, refusals, headers; nothing on disk, no leaks."""

import asyncio
import io
import json
import logging
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image

import mirl
from conftest import make_ticket
from mirl.cli import main
from mirl.engine.haze import amount_of_haze
from mirl.serve.app import Settings, create_app
from mirl.serve.shelf import Offer, Shelf, read_offers
from mirl.serve.work import MEDIA_TYPES, PARAMETERS
from mirl.ticket import SHIPPED, encode_ticket, read_ticket, write_ticket
from mirl.windows import WHOLE
from test_haze import make_head

RNG = np.random.default_rng(5)
PHOTO = RNG.integers(0, 256, (41, 57, 3), dtype=np.uint8)


@dataclass(frozen=True)
class Page:
    content: bytes
    media_type: str


SITE = {"/": Page(b"<!doctype html>", "text/html; charset=utf-8"), "/app.js": Page(b"1", "text/javascript")}


def offer(name: str = "first", seed: int = 0) -> Offer:
    content = encode_ticket(make_ticket(keep=0.9, seed=seed))
    return Offer(name, content, read_ticket(content))


OFFER = offer()


def encoded(format: str = "PNG", image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or Image.fromarray(PHOTO)).save(buffer, format, **options)
    return buffer.getvalue()


def talk(conversation, settings: Settings = Settings(), offers: tuple[Offer, ...] = (OFFER,), ready: bool = True):  # noqa: B008
    """Run the coroutine function `conversation(client)` against a service that has started."""

    async def run():
        app = create_app(Shelf(offers, threads=1), settings, SITE)
        async with app.router.lifespan_context(app):
            transport = httpx.ASGITransport(app, raise_app_exceptions=False)
            async with httpx.AsyncClient(transport=transport, base_url="http://mirl") as client:
                while ready and (await client.get("/readyz")).status_code != 200:
                    await asyncio.sleep(0.01)
                return await conversation(client)

    return asyncio.run(run())


def post(content: bytes, settings: Settings = Settings(), **parameters: object) -> httpx.Response:  # noqa: B008
    return talk(lambda client: client.post("/v1/restore", content=content, params=parameters), settings)


def refused(answer: httpx.Response, status: int, code: str) -> str:
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    assert set(answer.json()) == {"error"}
    message = answer.json()["error"]["message"]
    for leak in ("Traceback", "/", "0x", "object at", ".py", "mirl.", "--"):
        assert leak not in message, message
    return message


def pixels(content: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(content)))


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_api_command_and_python_give_the_same_pixels(tmp_path, strength):
    ticket, photo, out = tmp_path / "t.mirl", tmp_path / "in.png", tmp_path / "out.png"
    ticket.write_bytes(OFFER.content)
    photo.write_bytes(encoded())
    words = ["restore", str(photo), "-o", str(out), "--ticket", str(ticket), "--threads", "1", "--strength", str(strength)]
    assert main(words) == 0
    answer = post(encoded(), strength=strength)
    assert answer.headers["content-type"] == "image/png"
    assert answer.content == out.read_bytes()
    np.testing.assert_array_equal(pixels(answer.content), mirl.restore(PHOTO, OFFER.ticket, strength=strength, threads=1))
    assert (strength == 0) == np.array_equal(pixels(answer.content), PHOTO)


@pytest.mark.parametrize(
    ("format", "options"),
    [("JPEG", {"quality": 93}), ("JPEG", {"quality": 60}), ("WEBP", {"quality": 80}), ("WEBP", {"lossless": True}),
     ("TIFF", {}), ("BMP", {})],
)  # fmt: skip
def test_files_of_every_format_are_those_of_the_command(tmp_path, format, options):
    exif = Image.Exif()
    exif[0x010F], exif[0x0112] = "Camera", 6
    extra = {} if format == "BMP" else {"exif": exif, "icc_profile": b"a profile that no one can read"}
    ticket, photo, out = tmp_path / "t.mirl", tmp_path / "in.bin", tmp_path / "out"
    ticket.write_bytes(OFFER.content)
    photo.write_bytes(encoded(format, **options, **extra))
    assert main(["restore", str(photo), "-o", str(out), "--ticket", str(ticket), "--threads", "1"]) == 0
    answer = post(photo.read_bytes())
    assert answer.headers["content-type"] == f"image/{format.lower()}"
    assert answer.content == (out / "in.bin").read_bytes()


def test_a_form_is_read_in_memory_and_its_fields_win_over_the_address(tmp_path, monkeypatch):
    def no_disk(*words: object, **more: object) -> None:
        raise AssertionError("something was written to disk")

    monkeypatch.setattr("tempfile.mkstemp", no_disk)
    monkeypatch.setattr("tempfile._mkstemp_inner", no_disk)
    monkeypatch.setattr("tempfile.TemporaryFile", no_disk)
    large = encoded(
        "BMP", Image.fromarray(np.zeros((800, 700, 3), np.uint8))
    )  # 1.7 MB: Starlette's own parser would spool it
    form = {"strength": "0", "format": "png", "ticket": "", "submit": "Go"}

    async def conversation(client):
        files = {"image": ("/etc/secret <name>.svg", large, "image/svg+xml")}
        return await client.post("/v1/restore?strength=1", files=files, data=form)

    answer = talk(conversation)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    assert not pixels(answer.content).any()


@pytest.mark.parametrize("format", ["jpeg", "webp"])
def test_quality_sets_the_size_of_the_file(format):
    coarse, fine = (post(encoded(), format=format, quality=quality) for quality in (20, 95))
    assert coarse.headers["content-type"] == f"image/{format}"
    assert len(coarse.content) < 0.7 * len(fine.content)


def test_an_answer_says_how_much_haze_was_seen_where_the_ticket_judges_it():
    ticket = replace(make_ticket(keep=0.9), haze_head=make_head(low=0.0, high=1.0))
    content = encode_ticket(ticket)
    head = read_ticket(content).haze_head
    assert head
    seen = amount_of_haze(PHOTO.astype(np.float32) / 255, head)
    assert 0.01 < seen < 0.99, "a head that is sure tests nothing"
    judging = (Offer("judging", content, read_ticket(content)), OFFER)

    async def ask(client):
        asked = ({"tone": "keep"}, {"ticket": "first"})
        return [await client.post("/v1/restore", content=encoded(), params=each) for each in asked]

    told, untold = talk(ask, offers=judging)
    assert float(told.headers["Mirl-Haze"]) == pytest.approx(seen, abs=1e-4)
    assert (untold.status_code, "mirl-haze" in untold.headers) == (200, False)


@pytest.mark.parametrize(
    "parameters",
    [{"strength": "2"}, {"quality": "1_0"}, {"strength": "\uff11"}, {"strength": "nan"}, {"strength": "x"},
     {"format": "gif"}, {"format": "JPEG"}, {"quality": "0"},
     {"denoise": "-1"}, {"dehaze": "1.5"}, {"tone": "loud"}, {"window": "31"}, {"window": "513"},
     {"window": "64.5"}, {"window": "60"},
     {"quality": "101"}, {"quality": "50.5"}, {"quality": ""}, {"strenght": "1"}],
)  # fmt: skip
def test_a_wrong_parameter_is_refused(parameters):
    refused(post(encoded(), **parameters), 422, "parameter")


def test_tickets_are_listed_sent_and_chosen_by_name():
    second = offer("second", seed=3)

    async def conversation(client):
        listing = (await client.get("/v1/tickets")).json()
        content = await client.get("/v1/tickets/second.mirl")
        again = await client.get("/v1/tickets/second.mirl", headers={"If-None-Match": content.headers["etag"]})
        answers = [await client.post("/v1/restore", content=encoded(), params=q) for q in ({}, {"ticket": "second"})]
        wrong = await client.post("/v1/restore", content=encoded(), params={"ticket": "../first"})
        return listing, content, again, answers, wrong

    listing, content, again, answers, wrong = talk(conversation, offers=(OFFER, second))
    assert listing["default"] == "first"
    assert [entry["name"] for entry in listing["tickets"]] == ["first", "second"]
    assert listing["tickets"][1]["bytes"] == len(second.content)
    assert listing["tickets"][1]["tasks"] == ["derain"]
    assert listing["tickets"][1]["density"] == second.ticket.density
    assert content.content == second.content
    assert (again.status_code, again.content) == (304, b"")
    for answer, chosen in zip(answers, (OFFER, second), strict=True):
        np.testing.assert_array_equal(pixels(answer.content), mirl.restore(PHOTO, chosen.ticket, threads=1))
    refused(wrong, 404, "unknown_ticket")


def test_every_answer_carries_safe_headers_and_the_page_is_served_as_it_is():
    async def conversation(client):
        paths = ["/", "/app.js", "/healthz", "/metrics", "/v1/tickets", "/openapi.json",
                 "/nothing", "/healthz/", "/v1/tickets/none.mirl"]  # fmt: skip
        answers = {path: await client.get(path) for path in paths}
        answers["wrong method"] = await client.get("/v1/restore")
        answers["bad image"] = await client.post("/v1/restore", content=b"no image")
        return answers

    answers = talk(conversation)
    for answer in answers.values():
        assert "default-src 'self'" in answer.headers["content-security-policy"]
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cross-origin-opener-policy"] == "same-origin"
        assert answer.headers["cross-origin-embedder-policy"] == "require-corp"
        assert "server" not in answer.headers
    assert (answers["/"].content, answers["/"].headers["content-type"]) == (b"<!doctype html>", "text/html; charset=utf-8")
    assert "/v1/restore" in answers["/openapi.json"].json()["paths"]
    for path in ("/nothing", "/healthz/"):
        refused(answers[path], 404, "not_found")
    refused(answers["/v1/tickets/none.mirl"], 404, "unknown_ticket")
    refused(answers["wrong method"], 405, "method")


def test_openapi_tells_every_parameter_format_and_refusal():
    told = talk(lambda client: client.get("/openapi.json")).json()["paths"]
    restore = told["/v1/restore"]["post"]
    schemas = {each["name"]: each["schema"] for each in restore["parameters"]}
    assert set(schemas) == set(PARAMETERS)
    assert schemas["format"]["enum"] == ["keep", "jpeg", "png", "webp", "tiff", "bmp"]
    form = restore["requestBody"]["content"]["multipart/form-data"]["schema"]["properties"]
    assert set(form) == {"image", *PARAMETERS}
    assert set(restore["responses"]) == {"200", "400", "404", "408", "413", "415", "422", "503", "504"}
    assert set(restore["responses"]["200"]["content"]) == set(MEDIA_TYPES.values())
    (file,) = told["/v1/tickets/{name}.mirl"].values()
    assert set(file["responses"]) == {"200", "404"}
    assert list(file["responses"]["200"]["content"]) == ["application/octet-stream"]
    assert {"/v1/tickets", "/healthz", "/readyz", "/metrics"} <= set(told)


@pytest.mark.parametrize("format", ["jpeg", "png", "webp", "tiff", "bmp"])
def test_every_format_can_be_asked_for(format):
    answer = post(encoded("WEBP", lossless=True), format=format)
    assert (answer.status_code, answer.headers["content-type"]) == (200, f"image/{format}")
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.format == format.upper()


@pytest.mark.parametrize(
    ("size", "format", "code"), [((17_000, 1), "webp", "image_size"), ((9, 9), "jpeg", "image_transparency")]
)
def test_what_a_format_cannot_hold_is_refused_before_the_work(gate, size, format, code):
    mode = "RGBA" if code == "image_transparency" else "RGB"
    refused(post(encoded("PNG", Image.new(mode, size)), format=format), 422, code)
    assert gate.calls == 0


def test_a_body_beyond_the_limit_is_refused_with_and_without_a_declared_length():
    async def chunks():
        for _ in range(30):
            yield bytes(1000)

    async def conversation(client):
        declared = await client.post("/v1/restore", content=bytes(30_000))
        streamed = await client.post("/v1/restore", content=chunks())
        form = await client.post("/v1/restore", files={"image": bytes(30_000)})
        return declared, streamed, form

    for answer in talk(conversation, Settings(max_megabytes=0.02)):
        refused(answer, 413, "body_size")


def test_forms_without_a_readable_image_are_refused():
    async def conversation(client):
        broken = {"Content-Type": "multipart/form-data"}, {"Content-Type": "multipart/form-data; boundary=x"}
        return [
            *[await client.post("/v1/restore", content=b"--y\r\n", headers=headers) for headers in broken],
            await client.post("/v1/restore", files={"photo": encoded()}),
            await client.post("/v1/restore", files=[("image", encoded()), ("image", encoded())]),
            await client.post("/v1/restore", files={"image": encoded()}, data={"ticket": "x" * 9000}),
        ]

    for answer in talk(conversation):
        refused(answer, 400, "form")
    refused(talk(lambda client: client.post("/v1/restore", data={"image": "x"})), 415, "image_format")


def test_a_raw_body_is_one_whatever_its_declared_type():
    """curl --data-binary says that every body is a form."""

    async def conversation(client):
        kinds = ("application/x-www-form-urlencoded", "application/octet-stream", "text/html", "")
        return [await client.post("/v1/restore", content=encoded(), headers={"Content-Type": kind}) for kind in kinds]

    answers = talk(conversation)
    assert [answer.status_code for answer in answers] == [200] * 4
    assert len({answer.content for answer in answers}) == 1


class Gate:
    """A backend that waits for `open`, to hold a worker; the photos that reach it are counted."""

    name, bytes_per_pixel, windows, haze_head = "gate", 1.0, WHOLE, None

    def __init__(self):
        self.open, self.calls = threading.Event(), 0

    def forward(self, pixels):
        self.calls += 1
        assert self.open.wait(10)
        return pixels


@pytest.fixture
def gate(monkeypatch):
    gate = Gate()
    monkeypatch.setattr(Shelf, "open", lambda self, offer: gate)
    yield gate
    gate.open.set()


async def until(condition) -> None:
    ends = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < ends
        await asyncio.sleep(0.005)


def test_a_full_queue_answers_503_and_the_health_checks_still_answer(gate):
    async def conversation(client):
        held = [asyncio.create_task(client.post("/v1/restore", content=encoded())) for _ in range(2)]
        await until(lambda: gate.calls == 1)
        await asyncio.sleep(0.05)
        full, health = await client.post("/v1/restore", content=encoded()), await client.get("/healthz")
        figures = (await client.get("/metrics")).text
        gate.open.set()
        return full, health, figures, [await answer for answer in held], await client.post("/v1/restore", content=encoded())

    full, health, figures, held, after = talk(conversation, Settings(workers=1, queue=1))
    refused(full, 503, "busy")
    assert int(full.headers["retry-after"]) >= 1
    assert health.status_code == 200
    assert "mirl_places_taken 2.0" in figures
    assert 'mirl_requests_total{route="/v1/restore",status="503"} 1.0' in figures
    assert [answer.status_code for answer in (*held, after)] == [200, 200, 200]


def test_a_photo_over_the_time_limit_is_answered_504_and_keeps_its_place_until_its_thread_ends(gate):
    async def conversation(client):
        late = await client.post("/v1/restore", content=encoded())
        busy = await client.post("/v1/restore", content=encoded())
        gate.open.set()
        await asyncio.sleep(0.1)
        return late, busy, await client.post("/v1/restore", content=encoded())

    late, busy, after = talk(conversation, Settings(workers=1, queue=0, seconds=0.3))
    refused(late, 504, "time_limit")
    refused(busy, 503, "busy")
    assert after.status_code == 200


def test_a_slow_upload_is_answered_408_and_gives_its_place_back(gate):
    async def slowly():
        yield b"\x89PNG"
        await asyncio.sleep(1)

    gate.open.set()

    async def conversation(client):
        slow = await client.post("/v1/restore", content=slowly())
        return slow, await client.post("/v1/restore", content=encoded())

    slow, after = talk(conversation, Settings(workers=1, queue=0, seconds=0.2))
    refused(slow, 408, "slow_upload")
    assert after.status_code == 200


@pytest.mark.parametrize("where", ["PIL.ImageFile.ImageFile.load", "PIL.Image.Image.save", "mirl.serve.work.restore_pixels"])
def test_memory_that_runs_out_is_no_fault_of_the_photo(gate, monkeypatch, where):
    def fail(*arguments, **options):
        raise MemoryError

    gate.open.set()
    content = encoded()
    monkeypatch.setattr(where, fail)
    answer = post(content)
    refused(answer, 503, "memory")
    assert int(answer.headers["retry-after"]) >= 1


def test_a_ticket_that_does_not_open_is_logged_at_once(monkeypatch, caplog):
    def fail(self, offer):
        raise RuntimeError("secret")

    monkeypatch.setattr(Shelf, "open", fail)
    monkeypatch.setattr(logging.getLogger("mirl.serve"), "propagate", True)
    told = lambda: [record for record in caplog.records if record.getMessage() == "not ready"]  # noqa: E731

    async def conversation(client):
        await until(told)  # while the service runs, not when it ends
        return await client.get("/readyz")

    with caplog.at_level(logging.INFO, "mirl.serve"):
        refused(talk(conversation, ready=False), 503, "not_ready")
    assert told()[0].exc_info


def test_a_wrong_method_is_told_the_right_one():
    answer = talk(lambda client: client.get("/v1/restore"))
    refused(answer, 405, "method")
    assert answer.headers["allow"] == "POST"


def test_an_unexpected_failure_tells_nothing_and_is_logged_by_type(gate, monkeypatch, caplog):
    def fail(self, pixels):
        raise RuntimeError("secret of /home/someone")

    monkeypatch.setattr(Gate, "forward", fail)
    monkeypatch.setattr(logging.getLogger("mirl.serve"), "propagate", True)
    with caplog.at_level(logging.INFO, "mirl.serve"):
        message = refused(post(encoded()), 500, "internal")
    assert "secret" not in message
    assert any(record.getMessage() == "failed" for record in caplog.records)


def test_logs_are_json_lines_without_names_and_content(caplog, monkeypatch):
    from mirl.serve.watch import JsonLines

    monkeypatch.setattr(logging.getLogger("mirl.serve"), "propagate", True)

    async def conversation(client):
        await client.post("/v1/restore", files={"image": ("holiday-in-rome.png", encoded())})
        await client.get("/holiday-in-rome.png")

    with caplog.at_level(logging.INFO, "mirl.serve"):
        talk(conversation)
    lines = [json.loads(JsonLines().format(record)) for record in caplog.records if record.name == "mirl.serve"]
    assert "rome" not in json.dumps(lines)
    requests = [line for line in lines if line["event"] == "request"]
    assert [line["route"] for line in requests] == ["/v1/restore", "other"]
    assert requests[0]["status"] == 200
    assert requests[0]["megapixels"] == pytest.approx(41 * 57 / 1e6, abs=5e-4)


def test_offers_need_at_least_one_ticket_and_distinct_sound_names(tmp_path):
    ticket = replace(make_ticket())
    for folder, name in (("a", "x"), ("b", "x"), ("a", "two words"), ("a", "y")):
        (tmp_path / folder).mkdir(exist_ok=True)
        write_ticket(ticket, tmp_path / folder / f"{name}.mirl")
    shipped = sorted(path.stem for path in SHIPPED.glob("*.mirl"))
    offers = read_offers([tmp_path / "a" / "y.mirl", tmp_path / "a" / "x.mirl"])
    assert [offer.name for offer in offers] == ["y", "x", *shipped]
    for files, words in (
        ([tmp_path / "a" / "x.mirl", tmp_path / "b" / "x.mirl"], "two tickets are called x"),
        ([tmp_path / "a" / "two words.mirl"], "part of an address"),
        ([tmp_path / "none.mirl"], "no ticket"),
        ([Path(__file__)], "not a ticket"),
    ):
        with pytest.raises(mirl.errors.MirlError, match=words):
            read_offers(files)
