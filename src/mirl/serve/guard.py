"""Around every answer: safe headers, one log line, figures, and an error that tells nothing of the server."""

import json
import logging
import time
import uuid

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mirl.serve.refusal import Refusal
from mirl.serve.site import POLICY
from mirl.serve.watch import Figures, note

SAFE_HEADERS = {
    "Content-Security-Policy": f"{POLICY}; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Permissions-Policy": "camera=(), microphone=(), geolocation=()",
}


class Guard:
    """ASGI middleware, the outermost one. `routes` are the paths that may appear in logs and figures as they are."""

    def __init__(self, app: ASGIApp, figures: Figures, routes: frozenset[str]):
        self._app, self._figures, self._routes = app, figures, routes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        began, status, identity = time.perf_counter(), 0, uuid.uuid4().hex[:12]
        scope["state"] = {**scope.get("state", {}), "facts": {}}

        async def send_safely(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                for name, value in SAFE_HEADERS.items():
                    headers[name] = value
                headers["X-Request-Id"] = identity
            await send(message)

        try:
            await self._app(scope, receive, send_safely)
        except Exception:
            note("failed", logging.ERROR, error=True, id=identity)
            if not status:
                await _send_error(send_safely)
        finally:
            route, seconds = self._route(scope["path"]), time.perf_counter() - began
            self._figures.requests.labels(route, str(status)).inc()
            self._figures.seconds.labels(route).observe(seconds)
            if route not in ("/healthz", "/readyz", "/metrics"):
                note("request", id=identity, method=scope["method"], route=route, status=status, seconds=round(seconds, 4),
                     **scope["state"]["facts"])  # fmt: skip

    def _route(self, path: str) -> str:
        return path if path in self._routes else "other"


async def _send_error(send: Send) -> None:
    refusal = Refusal(500, "internal", "something went wrong here; the log of the server says what")
    headers = [(b"content-type", b"application/json")]
    headers += [(key.lower().encode(), value.encode()) for key, value in refusal.headers().items()]
    await send({"type": "http.response.start", "status": refusal.status, "headers": headers})
    await send({"type": "http.response.body", "body": json.dumps(refusal.content()).encode()})
