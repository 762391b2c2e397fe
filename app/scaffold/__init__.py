"""A new provider's files in a checkout: a small working example of each, to be made into the real one."""

import keyword
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

NAME = re.compile(r"[a-z][a-z0-9]{1,30}", re.ASCII)
FORMS = Path(__file__).parent
# Where a provider may be named.
ROOMS = ("app/providers", "app/simulators")


class NotWritten(Exception):
    """Nothing was written, and this is why."""


def write(name: str, checkout: Path) -> list[Path]:
    """The files that were written. NotWritten: the name won't do, something is there, or this is no checkout."""
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise NotWritten("A provider's name has 2 to 31 small letters and digits, and begins with a letter.")
    if not all((checkout / room).is_dir() for room in ROOMS):
        raise NotWritten("This is no checkout of Gatehouse: there is no app/providers here.")
    targets = {
        checkout / f"app/providers/{name}.py": FORMS / "provider.txt",
        checkout / f"app/simulators/{name}.py": FORMS / "simulator.txt",
    }
    targets |= {checkout / "tests/cases" / name / case.name: case for case in sorted(FORMS.glob("cases/*.json"))}
    if taken := [str(path.relative_to(checkout)) for path in targets if path.exists()]:
        raise NotWritten(f"There is {taken[0]} already.")
    if place := next(used(name, checkout), None):
        raise NotWritten(f"{name} is a word of the code, as in {place}: find another.")
    for path, form in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(filled(form.read_text(), name))
    return list(targets)


def used(name: str, checkout: Path) -> Iterator[str]:
    """Where a name or a key of the code has it in it, so that nobody could tell who knows the provider."""
    for path in sorted((checkout / "app").rglob("*.py")):
        place = path.relative_to(checkout).as_posix()
        if not place.startswith(ROOMS) and any(name in word for word in words(path)):
            yield place


def words(path: Path) -> Iterator[str]:
    with tokenize.open(path) as source:
        for token in tokenize.generate_tokens(source.readline):
            if token.type in {tokenize.NAME, tokenize.STRING} and " " not in token.string:
                yield token.string.lower().replace("_", "")


def filled(form: str, name: str) -> str:
    return form.replace("@name@", name).replace("@Name@", name.capitalize())
