"""What is counted and timed as it happens, in Prometheus' words."""

from dataclasses import dataclass

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics

METHODS = frozenset({"GET", "POST", "HEAD", "OPTIONS", "PUT", "PATCH", "DELETE"})
NO_ROUTE = "none"
OVERLOADED, AUTH_FAILED = "overloaded", "provider_auth_failed"

# Seconds. A read of our own takes one or two milliseconds, a provider's operation up to its timeout.
REQUEST_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
CALL_SECONDS = (0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
WAIT_SECONDS = (0.001, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25)


@dataclass(frozen=True, slots=True)
class Counted:
    """The children of one set of labels: to look them up costs more than to count."""

    count: Counter
    seconds: Histogram

    def once(self, seconds: float) -> None:
        self.count.inc()
        self.seconds.observe(seconds)


class Figures:
    """Those of one application; `inside` are the requests under way."""

    def __init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # when a series began would double their number
        self.registry = registry = CollectorRegistry()
        self.inside = 0
        self.requests = Counter(
            "gatehouse_requests", "Requests answered", ["route", "method", "status"], registry=registry
        )
        self.request_seconds = Histogram(
            "gatehouse_request_seconds",
            "Until a request was answered",
            ["route"],
            buckets=REQUEST_SECONDS,
            registry=registry,
        )
        self.rate_limited = Counter("gatehouse_rate_limited", "Requests that came too soon", registry=registry)
        self.overloaded = Counter(
            "gatehouse_overloaded", "Requests that there was no room or no store for", registry=registry
        )
        self.internal_errors = Counter(
            "gatehouse_internal_errors", "Requests that a fault of ours ended", registry=registry
        )
        self.calls = Counter(
            "gatehouse_provider_calls", "Calls to providers", ["provider", "operation", "outcome"], registry=registry
        )
        self.call_seconds = Histogram(
            "gatehouse_provider_call_seconds",
            "Until a provider answered, or failed to",
            ["provider", "operation"],
            buckets=CALL_SECONDS,
            registry=registry,
        )
        self.wait_seconds = Histogram(
            "gatehouse_provider_wait_seconds",
            "Until a call found a place among those under way, or gave up",
            ["provider"],
            buckets=WAIT_SECONDS,
            registry=registry,
        )
        self.drift = Counter(
            "gatehouse_provider_drift", "What a provider said that we don't know", ["provider"], registry=registry
        )
        self.auth_failures = Counter(
            "gatehouse_provider_auth_failures",
            "Calls whose credentials a provider refused",
            ["provider"],
            registry=registry,
        )
        self._requests: dict[tuple[str | None, str, int | None], Counted] = {}
        self._calls: dict[tuple[str, str, str], Counted] = {}
        self._waits: dict[str, Histogram] = {}

    def expect(self, provider: str) -> None:
        """What may go wrong with it is at 0 until it does: a rise from nothing at all is none to Prometheus."""
        self.drift.labels(provider)
        self.auth_failures.labels(provider)

    def answered(self, route: str | None, method: str, status: int | None, seconds: float, code: object = None) -> None:
        """`code` is of the answer, if that is an error.

        `route` is a template; None is an address that there isn't, and status None that nobody waited for it.
        """
        if method not in METHODS:
            method = "other"
        labels = route, method, status
        counted = self._requests.get(labels)
        if counted is None:
            where = route or NO_ROUTE
            count = self.requests.labels(where, method, str(status).lower())
            counted = self._requests[labels] = Counted(count, self.request_seconds.labels(where))
        counted.once(seconds)
        if status == 429:
            self.rate_limited.inc()
        elif status == 500:
            self.internal_errors.inc()
        elif status == 503 and code == OVERLOADED:
            self.overloaded.inc()

    def called(self, provider: str, operation: str, outcome: str, seconds: float) -> None:
        """`outcome` is `ok` or the code of an error."""
        labels = provider, operation, outcome
        counted = self._calls.get(labels)
        if counted is None:
            count = self.calls.labels(*labels)
            counted = self._calls[labels] = Counted(count, self.call_seconds.labels(provider, operation))
        counted.once(seconds)
        if outcome == AUTH_FAILED:
            self.auth_failures.labels(provider).inc()

    def waited(self, provider: str, seconds: float) -> None:
        wait = self._waits.get(provider)
        if wait is None:
            wait = self._waits[provider] = self.wait_seconds.labels(provider)
        wait.observe(seconds)

    def drifted(self, provider: str, times: int) -> None:
        self.drift.labels(provider).inc(times)
