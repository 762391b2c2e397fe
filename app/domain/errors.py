"""Everything that can go wrong, as one tree.

PaymentError                     code                        outcome at the provider
├── InvalidRequest               invalid_request             none      the caller's fields, all faults named
├── Malformed                    invalid_request             none      the request cannot be read at all
├── NotStrictJson                invalid_request             none      the body cannot be read at all
├── Unauthenticated              unauthenticated             none
├── Forbidden                    forbidden                   none
├── NotFound                     not_found                   none
├── MethodNotAllowed             method_not_allowed          none
├── TooLarge                     payload_too_large           none
├── UnsupportedMediaType         unsupported_media_type      none
├── UnsupportedOperation         unsupported_operation       none      this provider has no such operation
├── Conflict                                                 none      the invoice's state forbids it
│   ├── InvoiceFinished          invoice_finished
│   ├── RedirectFixed            redirect_fixed_at_creation
│   └── CheckoutUnavailable      checkout_unavailable
├── IdempotencyInProgress        idempotency_in_progress     none      the first call with this key still runs
├── IdempotencyMismatch          idempotency_mismatch        none      this key was used for another request
├── RateLimited                  rate_limited                none      this caller comes too often
├── Overloaded                   overloaded                  none      the store is away, or we are full
├── InternalError                internal_error              unknown   our bug
└── ProviderError                                                      what came of asking a provider
    ├── Rejected                 provider_rejected           none      it said no; asking again won't help
    │   └── AlreadyExists        provider_rejected           none      it has the invoice that it was to create
    ├── ProviderNotFound         provider_not_found          none      it does not know this invoice
    ├── Misconfigured            provider_auth_failed        none      our credentials are wrong
    ├── Throttled                provider_rate_limited       none      it asked us to slow down
    ├── Unavailable              provider_unavailable        none      nothing was sent
    ├── Faulty                   provider_error              none      5xx to a read
    ├── Unreadable               provider_invalid_response   none      a read's answer makes no sense
    ├── TimedOut                 provider_timeout            none      no answer to a read in time
    ├── OutcomeUnknown           outcome_unknown             unknown   a write was sent, no usable answer came
    └── AmountMismatch           amount_mismatch             happened  it invoices something else than asked
"""

from dataclasses import dataclass
from typing import ClassVar, Literal

Outcome = Literal["none", "happened", "unknown"]


@dataclass(frozen=True, slots=True)
class Fault:
    """One thing wrong with a request: a JSON pointer into the body, or `query:x`, `header:x`, `path:x`."""

    pointer: str
    message: str


@dataclass(frozen=True, slots=True)
class Complaint:
    """What a provider itself said of a failure, each part only if it said it."""

    http_status: int | None = None
    code: str | None = None
    message: str | None = None


class PaymentError(Exception):
    """A failure with a stable code that a caller can switch on; `retryable` means the same call, later."""

    code: ClassVar[str]
    title: ClassVar[str]
    outcome: ClassVar[Outcome] = "none"
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str, *, retry_after: int | None = None, invoice_id: str | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.retry_after = retry_after
        self.invoice_id = invoice_id


class InvalidRequest(PaymentError):
    code = "invalid_request"
    title = "The request is not valid"

    def __init__(self, faults: list[Fault]) -> None:
        super().__init__("See errors for everything that has to be put right.")
        self.faults = faults


class Malformed(PaymentError):
    code = "invalid_request"
    title = "The request cannot be read"


class NotStrictJson(PaymentError):
    code = "invalid_request"
    title = "The body is not strict JSON"


class Unauthenticated(PaymentError):
    code = "unauthenticated"
    title = "No valid API key was given"


class Forbidden(PaymentError):
    code = "forbidden"
    title = "This API key may not do that"


class NotFound(PaymentError):
    code = "not_found"
    title = "There is no such thing"


class MethodNotAllowed(PaymentError):
    code = "method_not_allowed"
    title = "This address does not take that method"


class TooLarge(PaymentError):
    code = "payload_too_large"
    title = "The body is too large"


class UnsupportedMediaType(PaymentError):
    code = "unsupported_media_type"
    title = "The body must be application/json"


class UnsupportedOperation(PaymentError):
    code = "unsupported_operation"
    title = "The provider has no such operation"


class Conflict(PaymentError):
    """The invoice's state forbids what was asked."""


class InvoiceFinished(Conflict):
    code = "invoice_finished"
    title = "The invoice is finished"


class RedirectFixed(Conflict):
    code = "redirect_fixed_at_creation"
    title = "This provider takes the redirect address at creation only"


class CheckoutUnavailable(Conflict):
    code = "checkout_unavailable"
    title = "The checkout's address cannot be known"


class IdempotencyInProgress(PaymentError):
    code = "idempotency_in_progress"
    title = "The first call with this idempotency key is still running"
    retryable = True


class IdempotencyMismatch(PaymentError):
    code = "idempotency_mismatch"
    title = "This idempotency key was used for another request"


class RateLimited(PaymentError):
    code = "rate_limited"
    title = "Too many calls in too short a time"
    retryable = True


class Overloaded(PaymentError):
    code = "overloaded"
    title = "The service cannot take this call now"
    retryable = True


class InternalError(PaymentError):
    code = "internal_error"
    title = "Something went wrong on our side"
    outcome = "unknown"
    retryable = True


class ProviderError(PaymentError):
    """What came of asking a provider, with what it said itself."""

    def __init__(
        self,
        detail: str,
        *,
        provider: str,
        complaint: Complaint | None = None,
        retry_after: int | None = None,
        invoice_id: str | None = None,
    ) -> None:
        super().__init__(detail, retry_after=retry_after, invoice_id=invoice_id)
        self.provider = provider
        self.complaint = complaint or Complaint()


class Rejected(ProviderError):
    code = "provider_rejected"
    title = "The provider refused the request"


class AlreadyExists(Rejected):
    """It has the invoice already that it was to create."""


class ProviderNotFound(ProviderError):
    code = "provider_not_found"
    title = "The provider does not know this invoice"


class Misconfigured(ProviderError):
    code = "provider_auth_failed"
    title = "The provider does not accept our credentials"


class Throttled(ProviderError):
    code = "provider_rate_limited"
    title = "The provider asked us to slow down"
    retryable = True


class Unavailable(ProviderError):
    code = "provider_unavailable"
    title = "The provider cannot be reached"
    retryable = True


class Faulty(ProviderError):
    code = "provider_error"
    title = "The provider failed"
    retryable = True


class Unreadable(ProviderError):
    code = "provider_invalid_response"
    title = "The provider's answer makes no sense"


class TimedOut(ProviderError):
    code = "provider_timeout"
    title = "The provider did not answer in time"
    retryable = True


class OutcomeUnknown(ProviderError):
    code = "outcome_unknown"
    title = "It is not known whether the provider did it"
    outcome = "unknown"
    retryable = True


class AmountMismatch(ProviderError):
    code = "amount_mismatch"
    title = "The provider invoices another amount than asked"
    outcome = "happened"
