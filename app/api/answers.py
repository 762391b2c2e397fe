"""Answers, encoded once."""

from collections.abc import Mapping

import msgspec
from fastapi import Response

ENCODER = msgspec.json.Encoder()


def answer(view: object, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    return Response(ENCODER.encode(view), status, headers, "application/json")
