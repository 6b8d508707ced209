"""Start the service: one process, its socket, its signals, and what a stop waits for."""

import signal
import socket
from math import ceil

import uvicorn
from fastapi import FastAPI

from mirl.errors import MirlError
from mirl.serve.watch import log_to_stderr, note


def run(app: FastAPI, host: str, port: int, seconds: float) -> None:
    """Serve until SIGTERM or Ctrl-C; then answer what was begun, for at most `seconds`.

    Prints the address. Raises MirlError for a port in use or none.
    """
    if not 0 <= port < 1 << 16:
        raise MirlError(f"--port must lie between 0 and 65535, found {port}")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        listener = socket.create_server((host, port), family=family, backlog=256)
    except OSError as error:
        raise MirlError(f"cannot listen on {host} port {port}: {error.strerror}; choose another --port or --host") from error
    log_to_stderr()
    shown = f"[{host}]" if ":" in host else host
    print(f"http://{shown}:{listener.getsockname()[1]}", flush=True)
    config = uvicorn.Config(
        app,
        http="h11",
        ws="none",
        lifespan="on",
        log_config=None,
        access_log=False,
        server_header=False,
        timeout_keep_alive=15,
        timeout_graceful_shutdown=ceil(seconds) + 1,
    )
    previous = signal.signal(signal.SIGTERM, lambda *_: None)  # uvicorn raises it once more when it is done
    try:
        uvicorn.Server(config).run(sockets=[listener])
    except KeyboardInterrupt:
        pass  # the same of Ctrl-C
    finally:
        signal.signal(signal.SIGTERM, previous)
        listener.close()
    note("stopped")
