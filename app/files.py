"""The files of our pages, each told whole."""

from starlette.staticfiles import StaticFiles
from starlette.types import Receive, Scope, Send
from typing_extensions import override

PARTS = frozenset({b"range", b"if-range"})


class Files(StaticFiles):
    """No page needs a part of one, and what is wrong with a Range would be told in another form than all else."""

    @override
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        headers = [(name, value) for name, value in scope["headers"] if name not in PARTS]
        await super().__call__({**scope, "headers": headers}, receive, send)
