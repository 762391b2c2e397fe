"""The API from a terminal: a command for each of its calls, and exit codes that mean something."""

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import wraps
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, NoReturn, ParamSpec
from urllib.parse import quote

import msgspec
import typer

from app import terminal
from app.client import PAGE, Client, Refused, Unanswered
from app.settings import LOOPBACK, SANDBOX_KEY, SettingsError, load
from app.terminal import say

P = ParamSpec("P")

EXIT_CODES = (
    "Exit codes: 0 done, 1 refused, 2 wrong usage, 3 the service cannot be reached, "
    "4 it may be done all the same (try again with the same key), 78 a setting is wrong."
)
UNFINISHED = ("pending", "processing", "partially_paid", "unknown")
FIELDS = ("field", "value")
COLUMNS = ("id", "provider", "status", "amount", "currency", "order_id", "created_at")
# Seconds: of one call that follows the events, and between one that told none and the next.
FOLLOWED, PAUSE = 20, 0.5

invoices = typer.Typer(
    help="Create, list and read invoices, and start their checkout.", no_args_is_help=True, epilog=EXIT_CODES
)
events = typer.Typer(help="What happens to invoices.", no_args_is_help=True, epilog=EXIT_CODES)

AsJson = Annotated[bool, typer.Option("--json", help="The API's own JSON.")]
Id = Annotated[str, typer.Argument(help="The invoice's id.")]


def reports_failures(command: Callable[P, None]) -> Callable[P, None]:
    """A failure is told on standard error, and by the exit code."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Refused as error:
            terminal.problem(error.problem)
            raise typer.Exit(error.code) from None
        except Unanswered as error:
            say(str(error), "red", aside=True)
            raise typer.Exit(error.code) from None

    return guarded


def client() -> Client:
    """To GATEHOUSE_URL with GATEHOUSE_KEY; on this machine, without a key, with the sandbox's."""
    settings = load()
    here = (settings.url.host or "").strip("[]") in LOOPBACK
    if settings.key is None and not here:
        raise SettingsError(["GATEHOUSE_KEY is missing: the API key for GATEHOUSE_URL"])
    key = settings.key.get_secret_value() if settings.key else SANDBOX_KEY
    return Client.to(str(settings.url), key, direct=here)


def show(document: Any, rows: Sequence[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A table of the columns, or the whole as JSON."""
    if as_json:
        terminal.document(document)
    else:
        terminal.table(rows, columns)


def at(id: str) -> str:
    return f"/v1/invoices/{quote(id, safe='')}"


def pairs(given: Sequence[str], option: str) -> dict[str, str]:
    if any("=" not in each for each in given):
        usage(f"{option} takes name=value")
    return dict(each.partition("=")[::2] for each in given)


def worth(text: str) -> Any:
    """A JSON value where it is one, but no fraction, else the text."""
    try:
        return msgspec.json.Decoder(float_hook=str).decode(text)
    except (ValueError, RecursionError):
        return text


def usage(message: str) -> NoReturn:
    raise typer.BadParameter(message)


@invoices.command("create", epilog=EXIT_CODES)
@reports_failures
def create(
    provider: Annotated[str | None, typer.Option(help="May be left out where one is configured, or routed.")] = None,
    amount: Annotated[str | None, typer.Option(help='In major units, as "49.90".')] = None,
    currency: Annotated[str | None, typer.Option(help="As EUR.")] = None,
    order_id: Annotated[str | None, typer.Option(help="The shop's own number.")] = None,
    description: Annotated[str | None, typer.Option()] = None,
    email: Annotated[str | None, typer.Option(help="The customer's.")] = None,
    variant: Annotated[list[str] | None, typer.Option(help="id or id:quantity; may be repeated.")] = None,
    redirect_url: Annotated[str | None, typer.Option(help="Where the shopper returns to.")] = None,
    callback_url: Annotated[str | None, typer.Option(help="Where events are sent.")] = None,
    metadata: Annotated[list[str] | None, typer.Option(help="name=value; may be repeated.")] = None,
    option: Annotated[list[str] | None, typer.Option(help="name=value, the provider's own; may be repeated.")] = None,
    idempotency_key: Annotated[str | None, typer.Option(help="The same key and request are one call.")] = None,
    from_json: Annotated[Path | None, typer.Option(help="The whole request, from a file or - .")] = None,
    as_json: AsJson = False,
) -> None:
    """Create an invoice; if it isn't known whether that happened, the key to try again with is shown."""
    body: dict[str, Any] = {
        "provider": provider,
        "amount": amount,
        "currency": currency,
        "order_id": order_id,
        "description": description,
        "customer": {"email": email} if email else None,
        "items": [item(each) for each in variant or ()] or None,
        "redirect_url": redirect_url,
        "callback_url": callback_url,
        "metadata": pairs(metadata or (), "--metadata") or None,
        "provider_options": {name: worth(text) for name, text in pairs(option or (), "--option").items()} or None,
    }
    given = {name: value for name, value in body.items() if value is not None}
    key = idempotency_key or token_hex(16)
    if idempotency_key is None:
        say(f"Idempotency-Key: {key}", aside=True)
    with client() as api:
        invoice = created(api, {**written(from_json), **given}, key)
    show(invoice, [invoice], COLUMNS, as_json=as_json)
    if not as_json and invoice.get("pay_url"):
        say(f"The shopper pays at {invoice['pay_url']}")


def created(api: Client, body: Mapping[str, Any], key: str) -> dict[str, Any]:
    try:
        return api.post("/v1/invoices", body, key)
    except (Refused, Unanswered) as error:
        if isinstance(error, Unanswered) or error.problem.get("retryable"):
            say(f"To try again: --idempotency-key {key}", aside=True)
        raise


def item(text: str) -> dict[str, Any]:
    variant, _, quantity = text.partition(":")
    if quantity and not quantity.isdecimal():
        usage("--variant takes id or id:quantity")
    return {"variant_id": variant, "quantity": int(quantity or 1)}


def written(path: Path | None) -> dict[str, Any]:
    """The request in a file, or from standard input; none is empty."""
    if path is None:
        return {}
    try:
        return msgspec.json.decode(sys.stdin.read() if str(path) == "-" else path.read_text(), type=dict[str, Any])
    except (OSError, ValueError, RecursionError) as error:
        usage(f"--from-json: {error}")


@invoices.command("list", epilog=EXIT_CODES)
@reports_failures
def list_(
    provider: Annotated[str | None, typer.Option()] = None,
    status: Annotated[str | None, typer.Option(help="As pending or unknown.")] = None,
    order_id: Annotated[str | None, typer.Option()] = None,
    provider_invoice_id: Annotated[str | None, typer.Option()] = None,
    created_after: Annotated[str | None, typer.Option(help="As 2026-01-31T00:00:00Z.")] = None,
    created_before: Annotated[str | None, typer.Option(help="As 2026-01-31T00:00:00Z.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    cursor: Annotated[str | None, typer.Option(help="Go on from here.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Every page.")] = False,
    as_json: AsJson = False,
) -> None:
    """List invoices, newest first."""
    query = {
        "provider": provider,
        "status": status,
        "order_id": order_id,
        "provider_invoice_id": provider_invoice_id,
        "created_after": created_after,
        "created_before": created_before,
        "cursor": cursor,
    }
    with client() as api:
        page = whole(api, query, quiet=as_json) if every else api.get("/v1/invoices", limit=limit, **query)
    show(page, page["data"], COLUMNS, as_json=as_json)
    if not as_json:
        beneath(page)


def whole(api: Client, query: Mapping[str, Any], *, quiet: bool) -> dict[str, Any]:
    """Every page as one, of which the first says who was asked."""
    pages = []
    with terminal.counting(hidden=quiet) as progress:
        task = progress.add_task("Reading", total=None)
        for page in api.pages("/v1/invoices", **query):
            pages.append(page)
            progress.advance(task, len(page["data"]))
    found = [invoice for page in pages for invoice in page["data"]]
    return {**pages[0], "data": found, "next_cursor": None, "has_more": False}


def beneath(page: Mapping[str, Any]) -> None:
    """What a reader of the table must know, too."""
    if page["partial"]:
        away = ", ".join(source["provider"] for source in page["sources"] if source["state"] == "failed")
        say(f"Could not be asked just now: {away}", "yellow", aside=True)
    if page["has_more"]:
        say(f"There are more: --cursor {page['next_cursor']}, or --all", aside=True)


@invoices.command("get", epilog=EXIT_CODES)
@reports_failures
def get(
    id: Id,
    wait: Annotated[int | None, typer.Option(help="Seconds to wait for its next change.", min=0, max=60)] = None,
    refresh: Annotated[bool, typer.Option(help="Insist on asking the provider.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read one invoice."""
    with client() as api:
        invoice = api.get(at(id), wait=wait, refresh="true" if refresh else None)
    show(invoice, [{"field": name, "value": value} for name, value in invoice.items()], FIELDS, as_json=as_json)


@invoices.command("checkout", epilog=EXIT_CODES)
@reports_failures
def checkout(
    id: Id,
    redirect_url: Annotated[str | None, typer.Option(help="Where the shopper returns to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start or resume its checkout, and print where the shopper pays."""
    with client() as api:
        visit = api.post(f"{at(id)}/checkout", {"redirect_url": redirect_url} if redirect_url else {})
    if as_json:
        terminal.document(visit)
    else:
        say(visit["url"] or visit["message"] or visit["outcome"])


@reports_failures
def providers(as_json: AsJson = False) -> None:
    """What each provider can do, and how it is doing."""
    with client() as api:
        sheets = api.get("/v1/providers")
    rows = [
        {
            **sheet,
            **sheet["health"],
            "p50 ms": sheet["health"]["p50_ms"],
            "errors": sheet["health"]["error_rate"],
            "can": " ".join(name for name, able in sheet["operations"].items() if able),
        }
        for sheet in sheets["data"]
    ]
    show(sheets, rows, ("name", "kind", "state", "p50 ms", "errors", "can"), as_json=as_json)


@events.command("tail", epilog=EXIT_CODES)
@reports_failures
def tail(
    type: Annotated[str | None, typer.Option(help="As invoice.completed.")] = None,
    invoice: Annotated[str | None, typer.Option(help="Of one invoice.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Go on from here; the last one is shown at the end.")] = None,
    from_start: Annotated[bool, typer.Option(help="Tell what has happened so far, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Follow the events until interrupted, one line each."""
    if cursor and from_start:
        usage("--cursor and --from-start contradict each other")
    query, place = {"type": type, "invoice_id": invoice}, cursor
    with client() as api, suppress(KeyboardInterrupt):
        try:
            place = place if cursor or from_start else end_of(api, query)
            for page in followed(api, place, query):
                for event in page["data"]:
                    terminal.document(event) if as_json else say(line(event))
                place = page["next_cursor"]
        finally:
            if place:
                say(f"To go on: --cursor {place}", aside=True)


def end_of(api: Client, query: Mapping[str, Any]) -> str:
    """Where the feed ends just now."""
    *_, last = api.pages("/v1/events", **query)
    place: str = last["next_cursor"]
    return place


def followed(api: Client, place: str | None, query: Mapping[str, Any]) -> Iterator[dict[str, Any]]:
    while True:
        page = api.get("/v1/events", cursor=place, wait=FOLLOWED, limit=PAGE, **query)
        yield page
        place = page["next_cursor"]
        if not page["data"]:
            time.sleep(PAUSE)


def line(event: Mapping[str, Any]) -> str:
    data = event["data"]
    money = f"{data['amount']} {data['currency']}" if data["amount"] else "-"
    return f"{event['timestamp']}  {event['type']:<24}  {event['invoice_id']}  {data['provider']}  {money}"


@reports_failures
def reconcile(
    every: Annotated[bool, typer.Option("--all", help="Every invoice that is not finished.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the providers about every unfinished invoice now; exit 1 if some could not be asked."""
    if not every:
        usage("--all says that every unfinished invoice is meant")
    asked = changed = failed = 0
    with client() as api, terminal.counting(hidden=as_json) as progress:
        for before in progress.track(unfinished(api), description="Asking"):
            now = asked_about(api, before["id"])
            asked += 1
            failed += now is None
            changed += now is not None and now["version"] > before["version"]
    summary = {"asked": asked, "changed": changed, "failed": failed}
    show(summary, [summary], tuple(summary), as_json=as_json)
    if failed:
        raise typer.Exit(1)


def unfinished(api: Client) -> list[dict[str, Any]]:
    """Each once, whatever it becomes meanwhile."""
    pages = (page for status in UNFINISHED for page in api.pages("/v1/invoices", status=status))
    return list({invoice["id"]: invoice for page in pages for invoice in page["data"]}.values())


def asked_about(api: Client, id: str) -> dict[str, Any] | None:
    """None where the provider could not be asked, which is told."""
    try:
        return api.get(at(id), refresh="true")
    except Refused as error:
        say(id, aside=True)
        terminal.problem(error.problem)
        return None
