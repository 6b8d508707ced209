"""What a request is refused with: a status, a code for programs and one sentence for people. Nothing of the server leaks."""

from dataclasses import dataclass

from mirl.errors import MirlError, OutOfMemory
from mirl.image import ImageError
from mirl.image.limits import Reason

_STATUS: dict[Reason, int] = {
    "format": 415,
    "damaged": 422,
    "empty": 400,
    "frames": 422,
    "megapixels": 413,
    "bits": 422,
    "transparency": 422,
    "unreadable": 422,
    "size": 422,
}


@dataclass
class Refusal(Exception):  # noqa: N818 - an answer
    """An answer that is an error: `{"error": {"code", "message"}}` with `status`; `retry_after` in seconds."""

    status: int
    code: str
    message: str
    retry_after: int | None = None

    def content(self) -> dict[str, dict[str, str]]:
        """Return the JSON of the answer."""
        return {"error": {"code": self.code, "message": self.message}}

    def headers(self) -> dict[str, str]:
        """Return the headers that belong to it; the connection is not used again, as its request may be half read."""
        retry = {} if self.retry_after is None else {"Retry-After": str(self.retry_after)}
        return {"Connection": "close", "Cache-Control": "no-store"} | retry


def refusal_of(error: MirlError) -> Refusal:
    """Return the answer to an image or a wish that `mirl restore` refuses as well."""
    if isinstance(error, OutOfMemory):
        return Refusal(503, "memory", "not enough memory just now; try again, or send a smaller photo", retry_after=5)
    if isinstance(error, ImageError) and error.reason == "size":  # a side beyond what the format holds
        return Refusal(422, "image_size", "the format asked for cannot hold an image of this size; ask for png")
    if isinstance(error, ImageError):
        message = str(error).replace(", or raise --max-megapixels", "")
        return Refusal(_STATUS[error.reason], f"image_{error.reason}", message)
    return Refusal(500, "engine", "the photo could not be restored; the log of the server says why")
