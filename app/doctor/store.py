"""Whether the store can be used as it is."""

import os
from pathlib import Path

from app.doctor.finding import Finding
from app.domain.errors import Overloaded
from app.settings import Settings
from app.storage import migrations
from app.storage.engine import open_engine
from app.storage.failures import StoreInUse, StoreUnusable

SQLITE = "sqlite:///"


async def standing(settings: Settings) -> Finding:
    if finding := unmade(settings.database_url):
        return finding
    try:
        async with open_engine(settings.database_url) as engine:
            found = await engine.read(migrations.standing)
    except StoreInUse:
        return Finding("store", "good", "in use by a running service, the one that it serves")
    except (StoreUnusable, Overloaded) as error:
        return Finding("store", "wrong", f"{error} Check GATEHOUSE_DATABASE_URL.")
    if found == "behind" and settings.auto_migrate:
        return Finding("store", "good", "reachable; its schema is brought to head at the start")
    return SCHEMAS[found]


SCHEMAS = {
    "at head": Finding("store", "good", "reachable, and its schema is current"),
    "behind": Finding("store", "wrong", "its schema is behind: run `gatehouse migrate`"),
    "ahead": Finding("store", "wrong", "its schema is of a newer version: run that one, or restore a backup"),
}


def unmade(url: str) -> Finding | None:
    """A SQLite file that isn't there yet, and isn't made by looking."""
    file = Path(url.removeprefix(SQLITE).partition("?")[0])
    if not url.startswith(SQLITE) or file.name in {"", ":memory:"} or file.exists():
        return None
    if os.access(file.parent, os.W_OK | os.X_OK):
        return Finding("store", "good", "not there yet; made at the start")
    return Finding("store", "wrong", "the folder of GATEHOUSE_DATABASE_URL is missing or not writable: make it so")
