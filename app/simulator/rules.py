"""What members of a JSON body may be, with words for whoever got one wrong."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from urllib.parse import urlsplit

from app.simulator.wire import dump

REQUIRED = object()


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Left out, a member is its default; without one it must not be left out."""

    hint: str
    allows: Callable[[Any], bool]
    default: Any = REQUIRED


def is_url(value: Any) -> bool:
    try:
        parts = urlsplit(value if isinstance(value, str) else "")
    except ValueError:
        return False
    return parts.scheme in {"http", "https"} and parts.netloc != ""


TEXT = Rule(hint="a text", allows=lambda value: isinstance(value, str) and value != "")
URL = Rule(hint="a URL", allows=is_url)


def one_of(*choices: Any, default: Any = REQUIRED) -> Rule:
    """Exactly one of these values; JSON's true is not 1."""
    known = [dump(choice) for choice in choices]
    return Rule(hint=f"one of {b', '.join(known).decode()}", allows=lambda value: dump(value) in known, default=default)


def flag(*, default: bool) -> Rule:
    return Rule(hint="true or false", allows=lambda value: isinstance(value, bool), default=default)


def number(low: int | Decimal, high: int, *, default: Any = REQUIRED) -> Rule:
    """A JSON number, fractions included."""
    return Rule(
        hint=f"a number from {low} to {high}",
        allows=lambda value: type(value) in {int, Decimal} and low <= value <= high,
        default=default,
    )


def whole(low: int, high: int, *, default: Any = REQUIRED) -> Rule:
    rule = number(low, high, default=default)
    return replace(
        rule, hint=f"a whole {rule.hint[2:]}", allows=lambda value: type(value) is int and rule.allows(value)
    )


def optional(rule: Rule) -> Rule:
    """The same, or null, or left out."""
    return replace(rule, allows=lambda value: value is None or rule.allows(value), default=None)


def broken(said: Mapping[str, Any], rules: Mapping[str, Rule]) -> dict[str, str]:
    """What is wrong with the members that have a rule, by name; empty where all is well."""
    return {name: f"must be {rule.hint}" for name, rule in rules.items() if not _holds(said, name, rule)}


def _holds(said: Mapping[str, Any], name: str, rule: Rule) -> bool:
    return rule.allows(said[name]) if name in said else rule.default is not REQUIRED


def unknown(said: Mapping[str, Any], rules: Iterable[str]) -> dict[str, str]:
    return {name: f"is unknown; there are {', '.join(rules)}" for name in said if name not in set(rules)}
