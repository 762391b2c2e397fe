"""How a terminal is told: tables for people, JSON for scripts, failures on standard error."""

import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn
from rich.text import Text

# No line is broken or cut by us: an id must be whole to be copied, and what is piped is cut nowhere.
WIDE = 10_000

STYLES: Mapping[str, str] = {
    "completed": "green",
    "up": "green",
    "failed": "red",
    "down": "red",
    "disputed": "red",
    "unknown": "yellow",
    "degraded": "yellow",
    "paused": "yellow",
}


def say(text: str, style: str = "", *, aside: bool = False) -> None:
    """One line, coloured where there are colours; `aside` on standard error."""
    screen(aside=aside).print(Text(plain(text), style))


def table(rows: Iterable[Mapping[str, Any]], columns: Sequence[str]) -> None:
    """As wide as it must be, with nothing at the ends of its lines that would make a terminal break them."""
    lines = [
        [Text(column, "bold") for column in columns],
        *([cell(row.get(column)) for column in columns] for row in rows),
    ]
    widths = [max(text.cell_len for text in column) for column in zip(*lines, strict=True)]
    shown = screen()
    for line in lines:
        for text, width in zip(line, widths, strict=True):
            text.pad_right(width - text.cell_len)
        whole = Text("  ").join(line)
        whole.rstrip()
        shown.print(whole)


def cell(value: Any) -> Text:
    text = "-" if value is None else value if isinstance(value, str) else as_json(value)
    return Text(plain(text), STYLES.get(text, ""))


def document(value: Any) -> None:
    """One line of JSON."""
    print(as_json(value), flush=True)  # noqa: T201


def as_json(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def problem(told: Mapping[str, Any]) -> None:
    """All that a problem says, each fault on a line of its own."""
    say(f"{told.get('title')} ({told.get('code')})", "red", aside=True)
    said = (told.get("provider") or {}).get("message")
    lines = [
        told.get("detail"),
        *(f"{fault['pointer']} {fault['message']}" for fault in told.get("errors") or ()),
        said and f"the provider said: {said}",
        *(f"{name}: {told[name]}" for name in ("invoice_id", "request_id") if told.get(name)),
    ]
    for line in filter(None, lines):
        say(f"  {line}", aside=True)


def counting(*, hidden: bool) -> Progress:
    """How far something is, on standard error and only where somebody sees it."""
    columns = (SpinnerColumn(), TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    return Progress(*columns, console=Console(stderr=True), transient=True, disable=hidden)


def plain(text: str) -> str:
    """Nothing in it moves a cursor or changes a colour, whoever wrote it."""
    return "".join(letter if letter.isprintable() else " " for letter in text)


def screen(*, aside: bool = False) -> Console:
    return Console(file=sys.stderr if aside else sys.stdout, width=WIDE, soft_wrap=True, highlight=False)
