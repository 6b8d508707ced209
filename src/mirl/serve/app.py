"""The HTTP API of `mirl serve`: restore, tickets, health, figures, and the files of the page (docs/serve.md)."""

import asyncio
import hashlib
import logging
import math
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from importlib.metadata import version
from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import Receive, Scope, Send

from mirl.errors import MirlError, OutOfMemory
from mirl.serve.body import discard, read_upload
from mirl.serve.guard import Guard
from mirl.serve.openapi import OCTETS, RESTORE, TICKET_FILE
from mirl.serve.pool import Place, Pool
from mirl.serve.refusal import Refusal, refusal_of
from mirl.serve.shelf import Shelf
from mirl.serve.site import SiteFile
from mirl.serve.watch import Figures, facts_of, note
from mirl.serve.work import HAZE_HEADER, MEDIA_TYPES, PARAMETERS, Answer, parse_wish, restore_bytes

_CODES = {404: ("not_found", "there is nothing here"), 405: ("method", "this address does not answer that method")}
_PIECE = 256 * 1024  # bytes of an answer that are handed over at once
_LEFT = 499  # the client went away: nobody reads the answer, the log does


@dataclass(frozen=True)
class Settings:
    """Limits of the service: `seconds` for a whole request, upload included; `queue` requests wait beside `workers`."""

    workers: int = 1
    queue: int = 16
    seconds: float = 120.0
    max_megapixels: float = 24.0
    max_megabytes: float = 32.0

    def __post_init__(self) -> None:
        """Raise MirlError for a limit that lets nothing through, or is none."""
        for name in ("workers", "queue", "seconds", "max_megapixels", "max_megabytes"):
            value, least = getattr(self, name), "at least 0" if name == "queue" else "above 0"
            if not (0 < value < math.inf or (name == "queue" and value == 0)):
                raise MirlError(f"--{name.replace('_', '-')} must be a number {least}, found {value}")

    @property
    def max_bytes(self) -> int:
        """The largest body."""
        return int(self.max_megabytes * 1e6)


class Service:
    """What the routes share."""

    def __init__(self, shelf: Shelf, settings: Settings):
        self.shelf, self.settings = shelf, settings
        self.pool = Pool(settings.workers, settings.queue)
        self.figures = Figures(self.pool)
        self.ready = False

    async def open(self) -> None:
        """Open the default ticket; ready after that, or never when it does not open."""
        try:
            await asyncio.to_thread(self.shelf.open, self.shelf.find(None))
        except MirlError as error:
            return note("not ready", logging.ERROR, reason=str(error))
        except Exception:  # whatever it is: the operator must read of it now, not when the service ends
            return note("not ready", logging.ERROR, error=True)
        self.ready = True
        note("ready", ticket=self.shelf.default)

    async def restore(self, request: Request) -> tuple[Answer, Place]:
        """Answer one upload within the limits; the place is the caller's to leave, once the answer is sent.

        Raises Refusal, ClientDisconnect and MirlError, and has then left the place.
        """
        if not self.ready:
            raise Refusal(503, "not_ready", "the engine is still opening its ticket", retry_after=1)
        place = self.pool.enter()
        ends = time.monotonic() + self.settings.seconds
        try:
            return await self._restore(request, place, ends), place
        except BaseException:
            place.leave()
            raise

    async def _restore(self, request: Request, place: Place, ends: float) -> Answer:
        try:
            async with asyncio.timeout(self.settings.seconds):
                content, fields = await read_upload(request, self.settings.max_bytes)
        except TimeoutError as error:
            raise Refusal(408, "slow_upload", "the upload took longer than a request may") from error
        if unknown := set(request.query_params) - set(PARAMETERS):
            raise Refusal(422, "parameter", f"{len(unknown)} unknown parameters; expected {', '.join(PARAMETERS)}")
        wish = parse_wish({**request.query_params, **fields})
        offer = self.shelf.find(wish.ticket)
        limit = self.settings.max_megapixels
        work = place.start(lambda: restore_bytes(content, lambda: self.shelf.open(offer), wish, limit, place.check))
        work.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # nobody may be left to look at it
        watch = asyncio.ensure_future(_disconnect(request))
        try:
            both: set[asyncio.Future[Any]] = {work, watch}
            await asyncio.wait(both, timeout=max(0, ends - time.monotonic()), return_when=asyncio.FIRST_COMPLETED)
            if work.done():
                return work.result()
            self.figures.abandoned.labels("left" if watch.done() else "late").inc()
            if watch.done():
                raise ClientDisconnect
            raise Refusal(504, "time_limit", f"restoring took longer than {self.settings.seconds:g} s; send a smaller photo")
        finally:
            place.stop()
            watch.cancel()


class PhotoResponse(Response):
    """A photo on its way: its request keeps its place until the last piece is handed over, `seconds` at most.

    Sent in pieces, each when the one before has left: what a slow reader has not taken is counted, not piled up.
    """

    def __init__(self, answer: Answer, place: Place, seconds: float):
        name = f"restored.{answer.format.lower()}"
        headers = {"Cache-Control": "no-store", "Content-Disposition": f'inline; filename="{name}"'}
        if answer.haze is not None:
            headers[HAZE_HEADER] = f"{answer.haze:.4f}"
        super().__init__(answer.content, media_type=MEDIA_TYPES[answer.format], headers=headers)
        self._place, self._seconds = place, seconds

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send it; when that takes too long the answer stays short, and the server closes the connection."""
        start = {"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers}
        content = memoryview(self.body)
        *most, last = range(0, len(content), _PIECE)
        try:
            async with asyncio.timeout(self._seconds):
                await send(start)
                for at in most:
                    await send({"type": "http.response.body", "body": bytes(content[at : at + _PIECE]), "more_body": True})
        except TimeoutError:
            scope["state"]["facts"]["code"] = "slow_download"
            return
        finally:
            self._place.leave()  # before the client can know that it has everything, and asks again
        await send({"type": "http.response.body", "body": bytes(content[last:])})


def create_app(shelf: Shelf, settings: Settings, site: Mapping[str, SiteFile]) -> FastAPI:
    """Build the service; `site` maps addresses to the files of the page."""
    service = Service(shelf, settings)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        opening = asyncio.create_task(service.open())
        try:
            yield
            await opening
        finally:
            await asyncio.to_thread(service.pool.close)

    app = FastAPI(title="MIR-L", version=version("mirl"), docs_url=None, redoc_url=None, lifespan=lifespan,
                  redirect_slashes=False, description="Restores photographs: rain, haze, noise.")  # fmt: skip
    _add_api(app, service)
    _add_files(app, shelf, site)
    _add_errors(app, settings)
    routes = frozenset(route.path for route in app.routes if hasattr(route, "path"))
    app.add_middleware(Guard, figures=service.figures, routes=routes)
    return app


def _add_api(app: FastAPI, service: Service) -> None:
    @app.post("/v1/restore", openapi_extra=RESTORE, response_class=Response, summary="Restore one photo")
    async def restore(request: Request) -> Response:
        answer, place = await service.restore(request)
        service.figures.megapixels.inc(answer.megapixels)
        request.state.facts.update(facts_of(answer))
        return PhotoResponse(answer, place, service.settings.seconds)

    listing = service.shelf.listing()

    @app.get("/v1/tickets", summary="The tickets on offer, and which is the default")
    async def tickets() -> dict[str, Any]:
        return listing

    @app.get("/healthz", summary="The process answers")
    async def healthz() -> dict[str, str]:
        return {"status": "ok"}

    @app.get("/readyz", summary="The engine has opened the default ticket")
    async def readyz() -> dict[str, str]:
        if not service.ready:
            raise Refusal(503, "not_ready", "the engine is still opening its ticket", retry_after=1)
        return {"status": "ready"}

    @app.get("/metrics", summary="Prometheus figures", response_class=Response)
    async def metrics() -> Response:
        return Response(service.figures.text(), media_type=service.figures.content_type)


def _add_files(app: FastAPI, shelf: Shelf, site: Mapping[str, SiteFile]) -> None:
    files = {path: (file.content, file.media_type) for path, file in site.items()}
    for offer in shelf.offers.values():
        files[f"/v1/tickets/{offer.name}.mirl"] = (offer.content, OCTETS)
    tags = {path: f'"{hashlib.sha256(content).hexdigest()[:32]}"' for path, (content, _) in files.items()}

    async def file(request: Request) -> Response:
        path = request.url.path
        if path not in files:
            raise Refusal(404, "unknown_ticket", f"no ticket {path.rpartition('/')[2]} here; the list of tickets names all")
        content, media_type = files[path]
        headers = {"ETag": tags[path], "Cache-Control": "no-cache"}
        known = {tag.strip().removeprefix("W/") for tag in request.headers.get("if-none-match", "").split(",")}
        if tags[path] in known:
            return Response(status_code=304, headers=headers)
        return Response(content, media_type=media_type, headers=headers)

    any_ticket = "/v1/tickets/{name}.mirl"
    app.get(any_ticket, summary="The file of a ticket", openapi_extra=TICKET_FILE, response_class=Response)(file)
    app.add_route(any_ticket, file, methods=["HEAD"], include_in_schema=False)
    for path in site:
        app.add_route(path, file, methods=["GET", "HEAD"], include_in_schema=False)


def _add_errors(app: FastAPI, settings: Settings) -> None:
    async def refuse(request: Request, refusal: Refusal) -> Response:
        request.state.facts["code"] = refusal.code
        if request.method == "POST":
            await discard(request, settings.max_bytes)
        return JSONResponse(refusal.content(), refusal.status, refusal.headers())

    @app.exception_handler(Refusal)
    async def on_refusal(request: Request, error: Refusal) -> Response:
        return await refuse(request, error)

    @app.exception_handler(MirlError)
    async def on_error(request: Request, error: MirlError) -> Response:
        refusal = refusal_of(error)
        if refusal.status >= 500:
            note("engine", logging.ERROR, reason=str(error))
        return await refuse(request, refusal)

    @app.exception_handler(ClientDisconnect)
    async def on_disconnect(request: Request, error: ClientDisconnect) -> Response:
        return Response(status_code=_LEFT)

    @app.exception_handler(MemoryError)
    async def on_memory(request: Request, error: MemoryError) -> Response:
        return await refuse(request, refusal_of(OutOfMemory()))

    @app.exception_handler(HTTPException)
    async def on_http(request: Request, error: HTTPException) -> Response:
        code, message = _CODES.get(error.status_code, ("request", "the request cannot be answered"))
        response = await refuse(request, Refusal(error.status_code, code, message))
        if allowed := (error.headers or {}).get("Allow"):
            response.headers["Allow"] = allowed
        return response


async def _disconnect(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass
