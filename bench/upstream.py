"""A provider that answers at once: any POST makes an invoice, any GET is of one that waits to be paid."""

import asyncio
import json
import sys
from itertools import count
from typing import cast
from uuid import UUID

numbers = count(1)


class Upstream(asyncio.Protocol):
    """One request at a time, each of which comes in one piece, as from a caller on the same machine."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        method, path, _ = data.split(b" ", 2)
        if method == b"POST":
            id = str(UUID(int=next(numbers)))
            self.answer(b"201 Created", {"id": id, "paymentLink": f"https://pay.example/{id}"})
        else:
            self.answer(b"200 OK", invoice(path.rpartition(b"/")[2].decode()))

    def answer(self, status: bytes, data: dict[str, object]) -> None:
        body = json.dumps({"data": data}).encode()
        head = b"HTTP/1.1 %b\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n" % (status, len(body))
        self.transport.write(head + body)


def invoice(id: str) -> dict[str, object]:
    return {
        "id": id,
        "status": "CREATED",
        "addressId": None,
        "externalOrderId": None,
        "paymentAmount": None,
        "invoiceAmount": "49.90",
        "invoiceAssetCode": "EUR",
        "paymentAssetCode": None,
        "expireAt": "2036-01-03T00:00:00.000Z",
        "completedAt": None,
        "createdAt": "2026-01-02T00:00:00.000Z",
        "transactions": [],
    }


async def main(port: int) -> None:
    server = await asyncio.get_running_loop().create_server(Upstream, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(main(int(sys.argv[1])))
