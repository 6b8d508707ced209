"""mirl serve."""

from pathlib import Path
from typing import Annotated, Literal

import tyro


def serve(
    ticket: Annotated[tuple[Path, ...], tyro.conf.UseAppendAction] = (),
    host: str = "127.0.0.1",
    port: int = 8000,
    backend: Literal["auto", "native", "onnx", "torch"] = "auto",
    workers: int | None = None,
    threads: int = 1,
    queue: int = 16,
    seconds: float = 120.0,
    max_megapixels: float = 24.0,
    max_megabytes: float = 32.0,
    static_only: Path | None = None,
) -> None:
    """Serve the web page and the HTTP API; SIGTERM or Ctrl-C ends it once all that was begun is answered.

    Args:
        ticket: A .mirl file, hf:owner/name or the name of a shipped ticket; repeatable, the first is the default. The
            shipped ones are always on offer.
        host: Address to listen on; 0.0.0.0 is every one of this machine.
        port: Port to listen on; 0 takes a free one and prints it.
        backend: What runs the network, as in mirl restore.
        workers: Photos restored at the same time; one a processor when left out.
        threads: Processor threads for each photo.
        queue: Uploads that may wait for a worker; one more is answered 503.
        seconds: Time limit of a request, its upload included.
        max_megapixels: Refuse larger photos, before they are decoded.
        max_megabytes: Refuse larger uploads.
        static_only: Write the page and the tickets to this folder, for any web server, and stop.
    """
    from mirl.serve.shelf import Shelf, read_offers
    from mirl.serve.site import files, write

    offers = read_offers(ticket)
    if static_only is not None:  # needs no web framework
        for path in write(static_only, offers):
            print(path)
        return
    from mirl.engine.memory import available_threads, keep_large_blocks
    from mirl.serve.app import Settings, create_app
    from mirl.serve.run import run

    settings = Settings(available_threads() if workers is None else workers, queue, seconds, max_megapixels, max_megabytes)
    keep_large_blocks()
    run(create_app(Shelf(offers, backend, threads), settings, files()), host, port, seconds)
