"""Bring the schema to head, and say how far it is."""

from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

Standing: TypeAlias = Literal["behind", "at head", "ahead"]


def upgrade(connection: Connection) -> None:
    """To head, within the transaction that is open."""
    config = Config()
    config.attributes["connection"] = connection
    config.set_main_option("script_location", str(Path(__file__).parent).replace("%", "%%"))
    command.upgrade(config, "head")


def standing(connection: Connection) -> Standing:
    """`ahead`: a newer version of this service has been here, and left a revision that we do not know."""
    found = set(MigrationContext.configure(connection).get_current_heads())
    if found == {head()}:
        return "at head"
    return "behind" if found <= known() else "ahead"


@cache
def head() -> str | None:
    return scripts().get_current_head()


@cache
def known() -> frozenset[str]:
    return frozenset(script.revision for script in scripts().walk_revisions())


@cache
def scripts() -> ScriptDirectory:
    return ScriptDirectory(Path(__file__).parent)
