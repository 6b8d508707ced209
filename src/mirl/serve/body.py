"""The body of an upload, raw or multipart, in memory and never beyond the limit; nothing is spooled to disk."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import ClientDisconnect, Request

from mirl.serve.refusal import Refusal
from mirl.serve.work import PARAMETERS

_FIELD_BYTES = 4096  # of a form's text field, name of the part included
_DISCARD_SECONDS = 2.0
_OVERHEAD = 65536  # of a multipart body: boundaries, headers, text fields


class _InMemory(MultiPartParser):
    spool_max_size = 1 << 62  # Starlette's own moves files above 1 MB to disk; `_counted` bounds them


async def read_upload(request: Request, max_bytes: int) -> tuple[bytes, dict[str, str]]:
    """Return the image's bytes and the text fields of a form, which are none for a raw body.

    Raises Refusal for a body that is too large, empty or no proper form, and ClientDisconnect.
    """
    kind = request.headers.get("content-type", "").split(";")[0].strip().lower()
    if kind != "multipart/form-data":  # whatever it says: curl calls every body a form
        content = b"".join([chunk async for chunk in _counted(request, max_bytes)])
        return content, {}
    parser = _InMemory(
        request.headers, _counted(request, max_bytes + _OVERHEAD), max_files=1, max_fields=16, max_part_size=_FIELD_BYTES
    )
    try:
        form = await parser.parse()
    except MultiPartException as error:
        raise Refusal(400, "form", "the form cannot be read: expected one file and a few short fields") from error
    except (KeyError, ValueError, AttributeError, LookupError) as error:  # boundary missing, unknown charset
        raise Refusal(400, "form", "the form cannot be read: its boundary or character set is wrong") from error
    try:
        image = form.get("image")
        if not isinstance(image, UploadFile):
            raise Refusal(400, "form", "the form has no file in a field named image")
        if image.size is not None and image.size > max_bytes:
            raise _too_large(max_bytes)
        return await image.read(), {key: text for key in PARAMETERS if isinstance(text := form.get(key), str) and text}
    finally:
        await form.close()


async def discard(request: Request, max_bytes: int) -> None:
    """Read what a refused client still sends, for a moment, or it may see a broken connection instead of the answer."""
    if "expect" in request.headers or getattr(request.state, "body_read", False):  # it waits for leave to send, or sent all
        return
    with contextlib.suppress(TimeoutError, ClientDisconnect, Refusal, RuntimeError):
        async with asyncio.timeout(_DISCARD_SECONDS):
            seen = 0
            while seen <= 2 * max_bytes:
                message = await request.receive()
                seen += len(message.get("body", b""))
                if message["type"] == "http.disconnect" or not message.get("more_body"):
                    return


async def _counted(request: Request, max_bytes: int) -> AsyncGenerator[bytes, None]:
    length = request.headers.get("content-length", "0")
    if length.isdecimal() and int(length) > max_bytes:
        raise _too_large(max_bytes)
    seen = 0
    async for chunk in request.stream():
        seen += len(chunk)
        if seen > max_bytes:
            raise _too_large(max_bytes)
        yield chunk
    request.state.body_read = True


def _too_large(max_bytes: int) -> Refusal:
    return Refusal(413, "body_size", f"the body is larger than {max_bytes / 1e6:g} MB; send a smaller file")
