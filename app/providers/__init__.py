"""The registry: every module in this folder is a kind of provider, found and never listed."""

import inspect
import re
from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from importlib import import_module
from pkgutil import iter_modules
from types import ModuleType
from typing import Any, SupportsFloat

from pydantic import ValidationError

from app.provider import Provider

NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}", re.ASCII)

# What pydantic says of a value that isn't there, in words that fit behind the name of a variable.
PLAINLY: Mapping[str, str] = {
    "missing": "is missing",
    "too_short": "is missing or empty",
    "extra_forbidden": "is not a setting of this kind",
}


class WrongSettings(ValueError):
    """Everything that keeps the providers from being made: one line for each variable, never with its value."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


def kinds() -> dict[str, type[Provider]]:
    return {found.name: provider_in(import_module(f"{__name__}.{found.name}")) for found in iter_modules(__path__)}


def provider_in(module: ModuleType) -> type[Provider]:
    """The one provider that a module defines; ValueError where there is none or more than one."""
    [only] = (
        member
        for member in vars(module).values()
        if inspect.isclass(member) and issubclass(member, Provider) and member.__module__ == module.__name__
    )
    return only


def build(
    settings: Mapping[str, Mapping[str, Any]], *, timeout: SupportsFloat, clock: Callable[[], datetime]
) -> dict[str, Provider]:
    """Make every configured provider, by its name; WrongSettings names all that is wrong.

    `settings` are the variables GATEHOUSE_PROVIDERS__<NAME>__<FIELD> as {name: {field: text}}, in lower case. The field
    `kind` may be left out where the name is the kind. `timeout` is in seconds, for those that set none of their own.
    """
    classes, built, faults = kinds(), dict[str, Provider](), list[str]()
    for name, given in settings.items():
        kind = given.get("kind", name)
        if found := list(misnamed(name, given, classes)):
            faults += found
            continue
        fields = {"timeout": timeout, **{field: text for field, text in given.items() if field != "kind"}}
        try:
            built[name] = classes[kind].model_validate({**fields, "name": name, "clock": clock})
        except ValidationError as error:
            faults += (fault(name, found) for found in error.errors(include_input=False, include_url=False))
    if faults:
        raise WrongSettings(faults)
    return built


def misnamed(name: str, given: Mapping[str, Any], classes: Mapping[str, type[Provider]]) -> Iterable[str]:
    if not NAME.fullmatch(name):
        yield f"{variable(name)}: must be named by at most 32 letters, digits, _ and -, beginning with a letter"
    if given.get("kind", name) not in classes:
        yield f"{variable(name, 'kind')}: must be one of {', '.join(sorted(classes))}"
    yield from (f"{variable(name, field)}: is not a setting" for field in ("name", "clock") if field in given)


def fault(name: str, found: Mapping[str, Any]) -> str:
    return f"{variable(name, *map(str, found['loc'][:1]))}: {PLAINLY.get(found['type'], found['msg'])}"


def variable(*parts: str) -> str:
    return "__".join(("GATEHOUSE_PROVIDERS", *filter(None, parts))).upper()
