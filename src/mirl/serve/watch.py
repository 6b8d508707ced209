"""What an operator sees: JSON lines and Prometheus figures, without image content, file names or addresses of clients."""

import json
import logging
import sys
import time
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from mirl.serve.pool import Pool
from mirl.serve.work import Answer

_SECONDS = (0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60)


class Figures:
    """The Prometheus figures of one service, in a registry of their own."""

    content_type = CONTENT_TYPE_LATEST

    def __init__(self, pool: Pool):
        self._registry = CollectorRegistry()
        self.requests = Counter("mirl_requests", "Answers by route and status", ["route", "status"], registry=self._registry)
        self.seconds = Histogram(
            "mirl_request_seconds", "Time from request to answer", ["route"], buckets=_SECONDS, registry=self._registry
        )
        self.megapixels = Counter("mirl_restored_megapixels", "Pixels restored, in millions", registry=self._registry)
        self.abandoned = Counter("mirl_abandoned", "Photos given up, by why", ["why"], registry=self._registry)
        taken = Gauge("mirl_places_taken", "Requests inside: reading, waiting or restoring", registry=self._registry)
        taken.set_function(lambda: pool.taken)
        Gauge("mirl_places", "Requests that may be inside", registry=self._registry).set(pool.places)

    def text(self) -> bytes:
        """Return all figures in Prometheus's text format."""
        return generate_latest(self._registry)


class JsonLines(logging.Formatter):
    """One JSON object a line; of an exception its type and where it was raised, never its message."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line."""
        entry: dict[str, Any] = {
            "time": time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage() if record.name == "mirl.serve" else "server",
        }
        if record.name != "mirl.serve":
            entry["message"] = record.getMessage().split("\n", 1)[0]
        entry |= getattr(record, "facts", {})
        if record.exc_info and record.exc_info[0]:
            entry["error"], trace = record.exc_info[0].__name__, record.exc_info[2]
            while trace and trace.tb_next:
                trace = trace.tb_next
            if trace:
                entry["where"] = f"{Path(trace.tb_frame.f_code.co_filename).name}:{trace.tb_lineno}"
        return json.dumps(entry)


def log_to_stderr() -> None:
    """Send the logs of the service and of uvicorn to stderr as JSON lines."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in ("mirl.serve", "uvicorn.error"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [handler], False
        logger.setLevel(logging.INFO if name == "mirl.serve" else logging.WARNING)


def note(event: str, level: int = logging.INFO, error: bool = False, **facts: object) -> None:
    """Log `event` with its facts; with `error` the exception in flight too."""
    logging.getLogger("mirl.serve").log(level, event, extra={"facts": facts}, exc_info=error)


def facts_of(answer: Answer) -> dict[str, object]:
    """Return what may be logged of a restored photo."""
    return {"format": answer.format, "megapixels": round(answer.megapixels, 3), "bytes": len(answer.content)}
