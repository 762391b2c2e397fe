"""The service's API as a terminal uses it: one call at a time, and what its failures mean for an exit code."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

import httpx

# More than the longest wait that the service allows.
TIMEOUT_SECONDS = 75
CONNECT_SECONDS = 5
PAGE = 100
# How often a call is made again that came too fast, and the longest pause before it, in seconds.
TRIES = 5
LONGEST_PAUSE = 10

REFUSED, UNREACHABLE, UNKNOWN = 1, 3, 4
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout, httpx.UnsupportedProtocol, httpx.ProxyError)


class Refused(Exception):
    """The service said no; `code` is the exit code: 4 where the call may be done all the same, else 1."""

    def __init__(self, problem: Mapping[str, Any], *, doubtful: bool = False) -> None:
        super().__init__(problem.get("title", "The service refused"))
        self.problem = problem
        self.code = UNKNOWN if doubtful else REFUSED


class Unanswered(Exception):
    """There was no answer; `code` is the exit code: 4 where the call may be done all the same, else 3."""

    def __init__(self, message: str, *, doubtful: bool = False) -> None:
        super().__init__(message)
        self.code = UNKNOWN if doubtful else UNREACHABLE


@dataclass(frozen=True, slots=True)
class Client:
    """Its calls answer what the service did, decoded; Refused or Unanswered say why there is nothing."""

    http: httpx.Client

    @classmethod
    def to(cls, url: str, key: str, *, direct: bool) -> Self:
        """`direct` passes by the proxies that the environment names."""
        timeout = httpx.Timeout(TIMEOUT_SECONDS, connect=CONNECT_SECONDS)
        headers = {"Authorization": f"Bearer {key}", "User-Agent": "gatehouse"}
        return cls(httpx.Client(base_url=url.rstrip("/"), headers=headers, timeout=timeout, trust_env=not direct))

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

    def pages(self, path: str, **query: Any) -> Iterator[dict[str, Any]]:
        """All of a list."""
        while True:
            page = self.get(path, **{"limit": PAGE, **query})
            yield page
            if not page["has_more"]:
                return
            query["cursor"] = page["next_cursor"]

    def _ask(self, method: str, path: str, tries: int = TRIES, **options: Any) -> dict[str, Any]:
        writes = method != "GET"
        answer = self._sent(method, path, **options)
        found = self._read(answer, writes=writes)
        if answer.is_success:
            return found
        if found.get("code") == "rate_limited" and tries > 1:
            time.sleep(min(int(answer.headers["Retry-After"]), LONGEST_PAUSE))
            return self._ask(method, path, tries - 1, **options)
        raise Refused(found, doubtful=writes and is_doubtful(found))

    def _sent(self, method: str, path: str, **options: Any) -> httpx.Response:
        try:
            return self.http.request(method, path, **options)
        except httpx.RequestError as error:
            what = f"{self.http.base_url} does not answer ({str(error) or type(error).__name__})."
            raise Unanswered(what, doubtful=method != "GET" and not isinstance(error, NOT_SENT)) from error

    def _read(self, answer: httpx.Response, *, writes: bool) -> dict[str, Any]:
        try:
            found = answer.json()
        except ValueError:
            found = None
        if not isinstance(found, dict) or answer.is_redirect:
            what = f"{self.http.base_url} answered {answer.status_code}, and not as a Gatehouse does."
            raise Unanswered(what, doubtful=writes and not answer.is_client_error)
        return found


def is_doubtful(problem: Mapping[str, Any]) -> bool:
    """Whether what was asked for may have happened, or be under way."""
    return problem.get("outcome") == "unknown" or problem.get("code") == "idempotency_in_progress"
