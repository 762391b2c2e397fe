"""The documents in openapi/providers, held against what is sent to a provider and what comes back."""

import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

from tests.simulator_desk import Told

FOLDER = Path(__file__).parent.parent / "openapi/providers"
DOCUMENTED = sorted(path.stem for path in FOLDER.glob("*.yaml"))
METHODS = {"get", "put", "post", "delete", "patch"}
JSON = "application/json"
FORMATS = FormatChecker(["date", "email", "uuid"])


@FORMATS.checks("date-time", ValueError)
def is_instant(text: object) -> bool:
    return not isinstance(text, str) or datetime.fromisoformat(text).tzinfo is not None


@FORMATS.checks("uri", ValueError)
def is_address(text: object) -> bool:
    return not isinstance(text, str) or bool(urlsplit(text).scheme and urlsplit(text).netloc)


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One call of a document; the path's parameters are named groups of `pattern`."""

    name: str
    method: str
    path: str
    said: Mapping[str, Any]
    parameters: tuple[Mapping[str, Any], ...]

    @property
    def pattern(self) -> str:
        return re.sub(r"\\\{(\w+)\\\}", r"(?P<\1>[^/]+)", re.escape(self.path))

    @property
    def successes(self) -> set[int]:
        return {int(status) for status in self.said["responses"] if status.startswith("2")}


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What was sent: `path` below the server's address, `query` as it stands in it, `body` as JSON, None for none.

    Where `headers` are None, they are not known and not judged.
    """

    method: str
    path: str
    query: str = ""
    headers: Mapping[str, str] | None = None
    body: Any = None


@dataclass(frozen=True, slots=True)
class Contract:
    """One document. Faults are sentences, none where all is as documented."""

    document: Mapping[str, Any]

    @property
    def operations(self) -> tuple[Operation, ...]:
        return tuple(self._operations("paths"))

    @property
    def webhooks(self) -> tuple[Operation, ...]:
        return tuple(self._operations("webhooks"))

    def _operations(self, part: str) -> Iterator[Operation]:
        for path, item in self.document.get(part, {}).items():
            for method in METHODS & item.keys():
                said = item[method]
                parameters = tuple(map(self.follow, [*item.get("parameters", ()), *said.get("parameters", ())]))
                yield Operation(
                    name=said["operationId"], method=method.upper(), path=path, said=said, parameters=parameters
                )

    def operation(self, method: str, path: str) -> Operation:
        """The one with the fewest parameters in its path: `/assets` before `/{id}`."""
        fits = [it for it in self.operations if it.method == method and re.fullmatch(it.pattern, path)]
        assert fits, f"{method} {path} is not documented"
        return min(fits, key=lambda it: it.path.count("{"))

    def follow(self, part: Mapping[str, Any]) -> Mapping[str, Any]:
        """What is there, or where its reference leads to."""
        while "$ref" in part:
            start, *names = part["$ref"].split("/")
            assert start == "#", part
            part = self.document
            for name in names:
                part = part[name]
        return part

    def faults(self, value: Any, schema: Mapping[str, Any], *, excerpt: bool = False) -> Iterator[str]:
        """An excerpt may leave out anything, also by a null, but the wrapper around everything."""
        whole = {**schema, "components": self.document["components"]}
        for error in Draft202012Validator(whole, format_checker=FORMATS).iter_errors(value):
            if not (excerpt and is_omission(error)):
                yield f"{error.json_path}: {error.message[:200]}"

    def request_faults(self, request: Request) -> list[str]:
        operation = self.operation(request.method, request.path)
        given: dict[str, Mapping[str, Any]] = {
            "path": named(operation, request.path),
            "query": parse_qs(request.query, keep_blank_values=True),
        }
        faults = [*self._body_faults(operation, request.body)]
        if request.headers is not None:
            given["header"] = lowered(request.headers)
            faults += [] if self._is_admitted(operation, given["header"]) else ["its credentials are not as documented"]
        return [*faults, *self._parameter_faults(operation, given)]

    def answer_faults(
        self,
        operation: Operation,
        status: int,
        body: bytes,
        headers: Mapping[str, str] | None,
        *,
        excerpt: bool = False,
    ) -> list[str]:
        responses = operation.said["responses"]
        if str(status) not in responses:
            return [f"{operation.name} answers {status}, which is not documented"]
        response = self.follow(responses[str(status)])
        faults = [*self._header_faults(response, headers)] if headers is not None else []
        if "content" not in response:
            return faults
        return [*faults, *self.faults(read(body), response["content"][JSON]["schema"], excerpt=excerpt)]

    def notice_faults(self, webhook: Operation, notice: Told) -> list[str]:
        given = {"header": lowered(notice.headers)}
        return [*self._body_faults(webhook, read(notice.body)), *self._parameter_faults(webhook, given)]

    def _body_faults(self, operation: Operation, body: Any) -> Iterator[str]:
        told = self.follow(operation.said.get("requestBody", {}))
        if body is None:
            yield from ["it has no body"] if told.get("required") else []
        elif not told:
            yield "it has a body, and none is documented"
        else:
            yield from self.faults(body, told["content"][JSON]["schema"])

    def _parameter_faults(self, operation: Operation, given: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
        known = {(told["in"], told["name"]) for told in operation.parameters}
        yield from (
            f"query {name}: is not documented" for name in given.get("query", {}) if ("query", name) not in known
        )
        for told in operation.parameters:
            place, name = told["in"], told["name"]
            if place not in given:
                continue
            key = name.lower() if place == "header" else name
            if key in given[place]:
                faults = self.faults(self._meant(given[place][key], told["schema"]), told["schema"])
                yield from (f"{place} {name}: {fault}" for fault in faults)
            elif told.get("required"):
                yield f"{place} {name}: is missing"

    def _meant(self, said: str | list[str], schema: Mapping[str, Any]) -> Any:
        """The value that a text stands for, or a query's texts of one name; what it cannot be, it is left."""
        wanted, texts = self.follow(schema).get("type"), said if isinstance(said, list) else [said]
        if wanted == "array" or len(texts) != 1:
            return texts
        return int(texts[0]) if wanted == "integer" and re.fullmatch("-?[0-9]+", texts[0]) else texts[0]

    def _is_admitted(self, operation: Operation, headers: Mapping[str, str]) -> bool:
        ways = operation.said.get("security", self.document.get("security", []))
        schemes = self.document["components"]["securitySchemes"]
        return any(all(is_shown(schemes[name], headers) for name in way) for way in ways)

    def _header_faults(self, response: Mapping[str, Any], headers: Mapping[str, str]) -> Iterator[str]:
        given = lowered(headers)
        if "content" in response and given.get("content-type", "").partition(";")[0] != JSON:
            yield "it is not said to be JSON"
        for name, told in response.get("headers", {}).items():
            if name.lower() in given:
                yield from (f"header {name}: {fault}" for fault in self.faults(given[name.lower()], told["schema"]))


@cache
def contract(kind: str) -> Contract:
    return Contract(yaml.safe_load((FOLDER / f"{kind}.yaml").read_text()))


def named(operation: Operation, path: str) -> dict[str, str]:
    found = re.fullmatch(operation.pattern, path)
    return found.groupdict() if found else {}


def lowered(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.lower(): value for name, value in headers.items()}


def is_shown(scheme: Mapping[str, Any], headers: Mapping[str, str]) -> bool:
    if scheme["type"] == "http":
        return bool(re.fullmatch("Bearer [^ ]+", headers.get("authorization", "")))
    return bool(headers.get(scheme["name"].lower()))


def is_omission(error: ValidationError) -> bool:
    if error.validator == "required":
        return error.validator_value != ["data"]
    return error.validator == "type" and error.instance is None


def read(body: bytes) -> Any:
    """JSON with its numbers as they were written; a body that is none is itself, and no schema allows it."""
    try:
        return json.loads(body, parse_float=Decimal, object_pairs_hook=once)
    except ValueError:
        return body


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    twice = [name for name, times in Counter(name for name, _ in pairs).items() if times > 1]
    assert not twice, f"{twice} come twice"
    return dict(pairs)
