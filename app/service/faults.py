"""Say what is wrong with a request in our own words, without ever repeating what was sent."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from app.domain.errors import Fault

MOST_FAULTS = 1000
LONGEST_PART = 100

WORDS: Mapping[str, str] = {
    "bool_type": "must be true or false",
    "dict_type": "must be an object",
    "enum": "must be one of {expected}",
    "extra_forbidden": "is not known here",
    "greater_than_equal": "must be at least {ge}",
    "int_type": "must be a whole number",
    "less_than_equal": "must be at most {le}",
    "list_type": "must be an array",
    "literal_error": "must be {expected}",
    "missing": "is required",
    "model_type": "must be an object",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "string_type": "must be a string",
    "too_long": "must have at most {max_length} entries",
}

Pointer = Callable[[Sequence[int | str]], str]


def faults_of(error: ValidationError, pointer: Pointer) -> list[Fault]:
    found = error.errors(include_url=False, include_input=False)
    return [fault_of(one, pointer) for one in found[:MOST_FAULTS]]


def unknown(pointer: str) -> Fault:
    return Fault(pointer, WORDS["extra_forbidden"])


def fault_of(found: ErrorDetails | Mapping[str, Any], pointer: Pointer) -> Fault:
    """A validator that blames another field than its own says which in the context, as `blames`."""
    context = found.get("ctx", {})
    where = context.get("blames", found["loc"])
    words = WORDS.get(found["type"])
    return Fault(pointer(where), words.format(**context) if words else found["msg"].removeprefix("Value error, "))


def body_pointer(where: Sequence[int | str]) -> str:
    """A JSON pointer (RFC 6901); what is wrong with a key of an object is told of its entry."""
    entry = where[:-1] if len(where) > 2 and where[-1] == "[key]" else where
    return "".join(f"/{escaped(str(part))}" for part in entry)


def escaped(part: str) -> str:
    return part[:LONGEST_PART].replace("~", "~0").replace("/", "~1")


def query_pointer(where: Sequence[int | str]) -> str:
    return f"query:{str(where[0])[:LONGEST_PART]}"
