"""SQLite files without any invoice: copies, since to migrate one takes longer than most tests."""

import asyncio
import tempfile
from functools import cache
from pathlib import Path

from app.storage.store import prepare


def begin(url: str) -> None:
    """The file of a world; what is there already stays as it is."""
    file = Path(url.removeprefix("sqlite:///"))
    if url.startswith("sqlite:") and not file.exists():
        file.write_bytes(sqlite_at_head())


@cache
def sqlite_at_head() -> bytes:
    """For threads in which no loop runs."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "gatehouse.db"
        asyncio.run(prepare(f"sqlite:///{file}"))
        return file.read_bytes()
