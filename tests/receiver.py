"""A merchant's receiver of events, on a socket: it checks every signature, and answers as a test wants."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from standardwebhooks import Webhook, WebhookVerificationError
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from tests.serving import serving

SECRET = "whsec_dGVzdHMtd2ViaG9vay1zZWNyZXQtMDAwMQ=="
EARLIER = "whsec_dGVzdHMtd2ViaG9vay1zZWNyZXQtMDAwMA=="


@dataclass
class Receiver:
    """`answers` says what an event is answered with; whatever is not 2xx counts as not received."""

    url: str
    secret: str = SECRET
    answers: Callable[[dict[str, Any]], Response] = lambda _: Response(status_code=204)
    seconds: float = 0
    received: list[dict[str, Any]] = field(default_factory=list)
    attempts: list[str] = field(default_factory=list)
    unsigned: int = 0

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        if not is_signed(Webhook(self.secret), body, request.headers):
            self.unsigned += 1
            return Response(status_code=401)
        event = json.loads(body)
        self.attempts.append(request.headers["webhook-id"])
        await asyncio.sleep(self.seconds)
        answer = self.answers(event)
        if answer.status_code < 300:
            self.received.append(event)
        return answer

    def types(self, invoice_id: str | None = None) -> list[str]:
        return [event["type"] for event in self.received if invoice_id in (None, event["data"]["id"])]

    async def has(self, count: int, seconds: float = 10) -> None:
        """Wait until so many events were received."""
        async with asyncio.timeout(seconds):
            while len(self.received) < count:
                await asyncio.sleep(0.02)


def is_signed(webhook: Webhook, body: bytes, headers: Mapping[str, str]) -> bool:
    """By the library's own judgement; where a test has moved the clock, by the signature that it would have made."""
    at = datetime.fromtimestamp(int(headers["webhook-timestamp"]), UTC)
    if abs(at - datetime.now(UTC)) > timedelta(minutes=4):
        return webhook.sign(headers["webhook-id"], at, body.decode()) in headers["webhook-signature"].split()
    try:
        webhook.verify(body, dict(headers))
    except WebhookVerificationError:
        return False
    return True


@asynccontextmanager
async def receiving(**options: Any) -> AsyncIterator[Receiver]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        receiver = Receiver(url=f"http://127.0.0.1:{listener.getsockname()[1]}/hooks", **options)

        async def hooks(request: Request) -> Response:
            return await receiver(request)

        async with serving(Starlette(routes=[Route("/hooks", hooks, methods=["POST"])]), listener):
            yield receiver
