"""What OpenAPI says of `POST /v1/restore`, whose body and parameters are read by hand (`body.py`, `work.py`)."""

from typing import Any

from mirl.engine.options import TONES
from mirl.image import CHOICES
from mirl.serve.work import HAZE_HEADER, LARGEST_WINDOW, MEDIA_TYPES

OCTETS = "application/octet-stream"
_BINARY = {"schema": {"type": "string", "format": "binary"}}
_SHARE: dict[str, Any] = {"type": "number", "minimum": 0, "maximum": 1, "default": 1}
_SCHEMAS: dict[str, dict[str, Any]] = {
    "ticket": {"type": "string", "description": "Name of a ticket of GET /v1/tickets; the default one when left out."},
    "strength": _SHARE | {"description": "0 gives the photo back."},
    "denoise": _SHARE | {"description": "Of the fine change: noise, rain, traces of coding."},
    "dehaze": _SHARE | {"description": "Of the change of tone and contrast, where the ticket sees haze."},
    "tone": {"type": "string", "enum": list(TONES), "default": "auto", "description": "keep: tone stays as it is."},
    "window": {
        "type": "integer",
        "minimum": 0,
        "maximum": LARGEST_WINDOW,
        "multipleOf": 8,
        "description": "Side of the windows that are restored each on its own, at least 32; 0: the statistics of the whole "
        "photo; what the ticket says when left out.",
    },
    "format": {"type": "string", "enum": list(CHOICES), "default": "keep"},
    "quality": {"type": "integer", "minimum": 1, "maximum": 100, "description": "Of JPEG and WebP."},
}
_HAZE = {
    "description": "How much haze was seen, 0 to 1; left out where the ticket does not judge it.",
    "schema": {"type": "number", "minimum": 0, "maximum": 1},
}
_ERROR = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}},
        }
    },
}
_ERRORS = {
    400: "Empty, or no proper form",
    404: "No such ticket",
    408: "The upload was too slow",
    413: "Too many bytes or megapixels",
    415: "Not a format that is read",
    422: "A damaged, animated or too deep image, or a wrong parameter",
    503: "All places are taken; Retry-After says when to come back",
    504: "The time limit is over",
}
TICKET_FILE: dict[str, Any] = {
    "parameters": [{"name": "name", "in": "path", "required": True, "schema": {"type": "string"}}],
    "responses": {
        "200": {"description": "The ticket, as mirl restore --ticket takes it", "content": {OCTETS: _BINARY}},
        "404": {"description": "No such ticket", "content": {"application/json": {"schema": _ERROR}}},
    },
}
RESTORE: dict[str, Any] = {
    "parameters": [{"name": name, "in": "query", "required": False, "schema": schema} for name, schema in _SCHEMAS.items()],
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["image"],
                    "properties": {"image": {"type": "string", "format": "binary"}, **_SCHEMAS},
                }
            },
            OCTETS: _BINARY,
            **dict.fromkeys(MEDIA_TYPES.values(), _BINARY),
        },
    },
    "responses": {
        "200": {
            "description": "The restored photo",
            "content": dict.fromkeys(MEDIA_TYPES.values(), _BINARY),
            "headers": {HAZE_HEADER: _HAZE},
        },
        **{
            str(status): {"description": text, "content": {"application/json": {"schema": _ERROR}}}
            for status, text in _ERRORS.items()
        },
    },
}
