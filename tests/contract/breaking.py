"""What callers of the released API rely on, and what it asks of them: the first may not shrink, nor the second grow."""

from collections.abc import Iterator, Mapping
from typing import Any

Schema = Mapping[str, Any]


def breaks(released: Schema, now: Schema) -> list[str]:
    """One line for each thing that whoever was written for the released document would stumble over."""
    promised, demanded = set(promises(released)), set(demands(released))
    gone = [f"gone: {each}" for each in promised - set(promises(now))]
    return sorted(gone + [f"new: {each}" for owner, each in set(demands(now)) - demanded if owner in promised])


def promises(document: Schema) -> Iterator[str]:
    """Every operation and parameter, every field with its type, every word of a list, every answer and its shape."""
    for where, operation in operations(document):
        yield where
        for one in operation.get("parameters", ()):
            yield from told(f"{where} {one['in']} {one['name']}", one["schema"])
        yield from shapes(f"{where} body", operation.get("requestBody", {}))
        for status, response in operation["responses"].items():
            if status < "400":
                yield f"{where} {status}"
                yield from (f"{where} {status} header {name}" for name in response.get("headers", ()))
                yield from shapes(f"{where} {status}", response)
    for name, schema in document["components"]["schemas"].items():
        yield name
        yield from told(name, schema)
        if not taken(name):
            yield from (f"{name}/{field} is always there" for field in schema.get("required", ()))


def demands(document: Schema) -> Iterator[tuple[str, str]]:
    """Everything that must be sent, and the operation or schema that asks for it: a new one may ask for anything."""
    for where, operation in operations(document):
        needed = [f"{one['in']} {one['name']}" for one in operation.get("parameters", ()) if one.get("required")]
        body = ["body"] if operation.get("requestBody", {}).get("required") else []
        yield from ((where, f"{where} {each} must be sent") for each in needed + body)
    for name, schema in document["components"]["schemas"].items():
        if taken(name):
            yield from ((name, f"{name}/{field} must be sent") for field in schema.get("required", ()))


def taken(name: str) -> bool:
    """Whether it is the schema of something that callers send."""
    return name.startswith("New") or name.endswith("Options")


def operations(document: Schema) -> Iterator[tuple[str, Schema]]:
    for path, methods in document["paths"].items():
        yield from ((f"{method.upper()} {path}", operation) for method, operation in methods.items())


def shapes(where: str, held: Schema) -> Iterator[str]:
    for media, content in held.get("content", {}).items():
        yield from told(f"{where} {media}", content.get("schema", {}))


def told(where: str, schema: Schema) -> Iterator[str]:
    yield f"{where} is {kind(schema)}"
    for form in (schema, *schema.get("anyOf", ()), schema.get("items", {})):
        yield from (f"{where} may be {word}" for word in form.get("enum", ()))
    for name, field in schema.get("properties", {}).items():
        yield from told(f"{where}/{name}", field)


def kind(schema: Schema) -> str:
    """The type in short: a name of ours, a word of JSON Schema, or several of them."""
    if "anyOf" in schema:
        return " or ".join(sorted(map(kind, schema["anyOf"])))
    if "items" in schema:
        return f"array of {kind(schema['items'])}"
    return str(schema.get("$ref", schema.get("type", "anything"))).rpartition("/")[2]
