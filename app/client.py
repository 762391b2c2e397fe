"""The service's API as a terminal uses it: one call at a time, and what its failures mean for an exit code."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

# More than the longest wait that the service allows.
TIMEOUT_SECONDS = 75
CONNECT_SECONDS = 5
PAGE = 100

REFUSED, UNREACHABLE, UNKNOWN = 1, 3, 4


class Refused(Exception):
    """The service said no; `code` is the exit code: 4 where it cannot be told what happened, else 1."""

    def __init__(self, problem: Mapping[str, Any]) -> None:
        super().__init__(problem.get("title", "The service refused"))
        self.problem = problem
        self.code = UNKNOWN if problem.get("outcome") == "unknown" else REFUSED


class Unreachable(Exception):
    """There was no answer."""

    code = UNREACHABLE


@dataclass(frozen=True, slots=True)
class Client:
    http: httpx.Client

    @classmethod
    def to(cls, url: str, key: str) -> Self:
        timeout = httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS)
        headers = {"Authorization": f"Bearer {key}", "User-Agent": "gatehouse"}
        return cls(httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout, trust_env=False))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.http.close()

    def get(self, path: str, **query: Any) -> dict[str, Any]:
        return self._ask("GET", path, params={name: value for name, value in query.items() if value is not None})

    def post(self, path: str, body: Mapping[str, Any], key: str | None = None) -> dict[str, Any]:
        return self._ask("POST", path, json=body, headers={"Idempotency-Key": key} if key else {})

    def every(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All of a list, page by page."""
        while True:
            page = self.get(path, limit=PAGE, **query)
            yield from page["data"]
            if not page["has_more"]:
                return
            query["cursor"] = page["next_cursor"]

    def _ask(self, method: str, path: str, **options: Any) -> dict[str, Any]:
        try:
            answer = self.http.request(method, path, **options)
            found: dict[str, Any] = answer.json()
        except httpx.TransportError as error:
            raise Unreachable(f"{self.http.base_url} does not answer ({type(error).__name__}).") from error
        except ValueError as error:
            raise Unreachable(f"{self.http.base_url} is no Gatehouse: it answered {answer.status_code}.") from error
        if answer.is_error:
            raise Refused(found)
        return found
