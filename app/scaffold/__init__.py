"""A new provider's files in a checkout: a small working example of each, to be made into the real one."""

import keyword
import re
from pathlib import Path

NAME = re.compile(r"[a-z][a-z0-9]{1,30}")
FORMS = Path(__file__).parent


class NotWritten(Exception):
    """Nothing was written, and this is why."""


def write(name: str, checkout: Path) -> list[Path]:
    """The files that were written. NotWritten: the name won't do, something is there, or this is no checkout."""
    if not NAME.fullmatch(name) or keyword.iskeyword(name):
        raise NotWritten("A provider's name has 2 to 31 small letters and digits, and begins with a letter.")
    if not (checkout / "app/providers").is_dir():
        raise NotWritten("This is no checkout of Gatehouse: there is no app/providers here.")
    targets = {
        checkout / f"app/providers/{name}.py": FORMS / "provider.txt",
        checkout / f"app/simulators/{name}.py": FORMS / "simulator.txt",
    }
    targets |= {checkout / "tests/cases" / name / case.name: case for case in sorted(FORMS.glob("cases/*.json"))}
    if taken := [str(path.relative_to(checkout)) for path in targets if path.exists()]:
        raise NotWritten(f"There is {taken[0]} already.")
    for path, form in targets.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(filled(form.read_text(), name))
    return list(targets)


def filled(form: str, name: str) -> str:
    return form.replace("@name@", name).replace("@Name@", name.capitalize())
