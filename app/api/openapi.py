"""The OpenAPI document, put together from what the routes, the models and the providers declare."""

from collections.abc import Iterable, Iterator, Mapping
from copy import deepcopy
from typing import Any

from fastapi import FastAPI
from pydantic import TypeAdapter

from app.api.problems import ProblemOut
from app.api.problems import kinds as problem_kinds
from app.api.schemas import NewCheckout, NewInvoice, NewReason, NewResolution, Nothing, Sent
from app.providers import kinds

BODY = "application/json"
REF = "#/components/schemas/{model}"
BODIES = (NewInvoice, NewCheckout, NewReason, NewResolution, Nothing)

DESCRIPTION = """\
One normalized REST API in front of many payment providers.

Amounts are decimal strings in major units. Times are RFC 3339 in UTC. Unknown fields and parameters are refused.
Every failure is a problem (RFC 9457) with a stable `code`, and says in `outcome` what happened at the provider.
Every response carries `X-Request-Id`.
"""

TAGS = [
    {"name": "invoices", "description": "What is owed, created at exactly one provider, and where the shopper pays it"},
    {"name": "events", "description": "What happened, as a feed, and the deliveries of it"},
    {"name": "pay", "description": "Links for the shopper's browser"},
    {"name": "notifications", "description": "Where providers tell what happened"},
    {"name": "providers", "description": "What each provider can do, and how it is doing"},
    {"name": "service", "description": "The service itself"},
]

# Where an answer's id leads: by the operation that gave it, its status, and where in the body the id is.
LINKS: Mapping[tuple[str, str, str], tuple[str, ...]] = {
    ("createInvoice", "201", "/id"): (
        "getInvoice",
        "startCheckout",
        "cancelInvoice",
        "traceInvoice",
        "listInvoiceEvents",
    ),
    ("listEvents", "200", "/data/0/id"): ("getEvent",),
    ("listDeliveries", "200", "/data/0/id"): ("redeliverEvent",),
}


def body_schema(model: type[Sent]) -> dict[str, str]:
    return {"$ref": REF.format(model=model.__name__)}


def parameters(query: type[Sent]) -> list[dict[str, Any]]:
    """A query's model as OpenAPI parameters."""
    properties = query.model_json_schema(ref_template=REF).get("properties", {})
    return [
        {"name": name, "in": "query", "required": False, **described(schema)} for name, schema in properties.items()
    ]


def described(schema: dict[str, Any]) -> dict[str, Any]:
    """A parameter is there or it isn't: it is never null."""
    said = {"description": schema["description"]} if "description" in schema else {}
    form = next(iter(schema.get("anyOf", [schema])))
    default = {"default": schema["default"]} if schema["default"] is not None else {}
    return {**said, "schema": {**{key: form[key] for key in form if key != "title"}, **default}}


def document(app: FastAPI) -> dict[str, Any]:
    found = deepcopy(app.openapi())
    schemas = found["components"]["schemas"]
    for name, schema in handed_over():
        schemas[name] = schema
    found["components"]["schemas"] = dict(sorted(schemas.items()))
    found["components"]["headers"] = {
        "RequestId": {"description": "The caller's own id, or ours", "schema": {"type": "string"}}
    }
    for operation in operations(found):
        operation.setdefault("security", [])
        for response in operation["responses"].values():
            response.setdefault("headers", {})["X-Request-Id"] = {"$ref": "#/components/headers/RequestId"}
    link({operation["operationId"]: operation["responses"] for operation in operations(found)})
    content = found["paths"]["/v1/invoices"]["post"]["requestBody"]["content"][BODY]
    content["examples"] = examples()
    return found


def link(responses: Mapping[str, dict[str, Any]]) -> None:
    """Tell in the responses of each operation which others take the id that it gives."""
    for (source, status, pointer), targets in LINKS.items():
        responses[source][status]["links"] = {
            target: {"operationId": target, "parameters": {"id": f"$response.body#{pointer}"}} for target in targets
        }


def examples() -> dict[str, Any]:
    """A whole create for each kind of provider."""
    return {name: {"value": {"provider": name, **kind.example}} for name, kind in kinds().items()}


def operations(found: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for path in found["paths"].values():
        yield from path.values()


def handed_over() -> Iterator[tuple[str, dict[str, Any]]]:
    """Schemas that no route's signature shows: bodies, which are read strictly first, and problems."""
    options = {f"{name.title()}Options": kind.Options for name, kind in kinds().items()}
    for name, model in ({model.__name__: model for model in BODIES} | options).items():
        yield from hoisted(name, model.model_json_schema(ref_template=REF), options)
    problem = TypeAdapter(ProblemOut).json_schema(ref_template=REF)
    problem["properties"]["code"]["enum"] = sorted({kind.code for kind in problem_kinds()})
    yield from hoisted("Problem", problem, options)


def hoisted(name: str, schema: dict[str, Any], options: Iterable[str]) -> Iterator[tuple[str, dict[str, Any]]]:
    """A schema after its own definitions, which become neighbours of it."""
    yield from schema.pop("$defs", {}).items()
    if "provider_options" in schema.get("properties", {}):
        wide = schema["properties"]["provider_options"]
        refs = [{"$ref": REF.format(model=option)} for option in options]
        schema["properties"]["provider_options"] = {"anyOf": refs, "description": wide["description"], "default": {}}
    yield name, {**schema, "title": name}
