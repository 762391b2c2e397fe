"""Answers, encoded once."""

from collections.abc import Mapping

import msgspec
from fastapi import Response

ENCODER = msgspec.json.Encoder()


def answer(view: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """`view` may have been encoded before."""
    body = view if isinstance(view, bytes) else ENCODER.encode(view)
    return Response(body, status, headers, "application/json")
