"""Restore a photo through a running `mirl serve`: python examples/serve/client.py rainy.jpg restored.jpg [http://...]."""

import json
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path


def restore(photo: bytes, server: str, tries: int = 5) -> bytes:
    """Send one photo and return the restored file; waits and asks again while the server is full."""
    for left in reversed(range(tries)):
        request = urllib.request.Request(
            f"{server}/v1/restore?strength=1", photo, {"Content-Type": "application/octet-stream"}
        )
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return bytes(answer.read())
        except urllib.error.HTTPError as error:
            if error.code == 503 and left:
                time.sleep(float(error.headers.get("Retry-After", "1")))
                continue
            sys.exit(f"{error.code}: {json.load(error)['error']['message']}")
    raise AssertionError("unreachable: the last try returns or exits")


if __name__ == "__main__":
    source, target, *rest = sys.argv[1:]
    Path(target).write_bytes(restore(Path(source).read_bytes(), rest[0] if rest else "http://127.0.0.1:8000"))
