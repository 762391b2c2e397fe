"""The API from a terminal: tables for people, `--json` for scripts, exit codes that mean something."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import wraps
from pathlib import Path
from secrets import token_hex
from typing import Annotated, Any, NoReturn, ParamSpec

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from app.client import Client, Refused, Unreachable
from app.settings import LOOPBACK, SANDBOX_KEY, SettingsError, load

P = ParamSpec("P")

err = Console(stderr=True, soft_wrap=True)
# What is piped elsewhere is cut nowhere.
WIDE = 1000

EXIT_CODES = "Exit codes: 0 done, 1 refused, 2 usage, 3 not reachable, 4 it is not known what happened, 78 settings."
UNFINISHED = ("pending", "processing", "partially_paid", "unknown")
COLUMNS = ("id", "provider", "status", "amount", "currency", "order_id", "created_at")
FOLLOWED_SECONDS = 20

invoices = typer.Typer(
    help="Create, list and read invoices, and start their checkout.", no_args_is_help=True, epilog=EXIT_CODES
)
events = typer.Typer(help="What happened.", no_args_is_help=True, epilog=EXIT_CODES)

AsJson = Annotated[bool, typer.Option("--json", help="The API's own JSON.")]
Id = Annotated[str, typer.Argument(help="The invoice's id.")]


def told(command: Callable[P, None]) -> Callable[P, None]:
    """A failure is told on standard error, and by the exit code."""

    @wraps(command)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except Refused as error:
            tell(error.problem)
            raise typer.Exit(error.code) from None
        except Unreachable as error:
            err.print(str(error), style="red", highlight=False, markup=False)
            raise typer.Exit(error.code) from None

    return guarded


def tell(problem: Mapping[str, Any]) -> None:
    err.print(f"{problem.get('title')} ({problem.get('code')})", style="red", highlight=False, markup=False)
    lines = [problem.get("detail"), *(f"{fault['pointer']} {fault['message']}" for fault in problem.get("errors", []))]
    said = (problem.get("provider") or {}).get("message")
    lines += [f"the provider said: {said}"] if said else []
    lines += [f"{name}: {problem[name]}" for name in ("invoice_id", "request_id") if problem.get(name)]
    for line in filter(None, lines):
        err.print(f"  {line}", highlight=False, markup=False)


def client() -> Client:
    """To GATEHOUSE_URL with GATEHOUSE_KEY; on this machine, without a key, with the sandbox's."""
    settings = load()
    if settings.key:
        return Client.to(str(settings.url), settings.key.get_secret_value())
    if settings.url.host not in LOOPBACK:
        raise SettingsError(["GATEHOUSE_KEY is missing: the API key for GATEHOUSE_URL"])
    return Client.to(str(settings.url), SANDBOX_KEY)


def show(document: Any, rows: Iterable[Mapping[str, Any]], columns: Sequence[str], *, as_json: bool) -> None:
    """A table of the columns, or the whole as JSON."""
    if as_json:
        print(json.dumps(document, ensure_ascii=False))  # noqa: T201
        return
    table = Table(box=None, pad_edge=False)
    for column in columns:
        table.add_column(column, no_wrap=True)
    for row in rows:
        table.add_row(*("-" if row.get(column) is None else str(row[column]) for column in columns))
    Console(width=None if sys.stdout.isatty() else WIDE).print(table)


def pairs(given: Sequence[str], option: str) -> dict[str, str]:
    found = dict(each.partition("=")[::2] for each in given)
    if any("=" not in each for each in given):
        usage(f"{option} takes name=value")
    return found


def worth(text: str) -> Any:
    """A JSON value where it is one, else the text."""
    try:
        return json.loads(text)
    except ValueError:
        return text


def usage(message: str) -> NoReturn:
    raise typer.BadParameter(message)


@invoices.command("create", epilog=EXIT_CODES)
@told
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
    with client() as api:
        try:
            invoice = api.post("/v1/invoices", {**document(from_json), **given}, key)
        except (Refused, Unreachable) as error:
            if isinstance(error, Unreachable) or error.problem.get("retryable"):
                err.print(f"To try again: --idempotency-key {key}", highlight=False, markup=False)
            raise
    show(invoice, [invoice], COLUMNS, as_json=as_json)
    if not as_json:
        print(f"pay at {invoice.get('pay_url')}")  # noqa: T201


def item(text: str) -> dict[str, Any]:
    variant, _, quantity = text.partition(":")
    if quantity and not quantity.isdecimal():
        usage("--variant takes id or id:quantity")
    return {"variant_id": variant, "quantity": int(quantity or 1)}


def document(path: Path | None) -> dict[str, Any]:
    if path is None:
        return {}
    try:
        found = json.loads(sys.stdin.read() if str(path) == "-" else path.read_text())
    except (OSError, ValueError) as error:
        usage(f"--from-json: {error}")
    if not isinstance(found, dict):
        usage("--from-json: must be a JSON object")
    return found


@invoices.command("list", epilog=EXIT_CODES)
@told
def list_(
    provider: Annotated[str | None, typer.Option()] = None,
    status: Annotated[str | None, typer.Option()] = None,
    order_id: Annotated[str | None, typer.Option()] = None,
    provider_invoice_id: Annotated[str | None, typer.Option()] = None,
    limit: Annotated[int, typer.Option(min=1, max=100)] = 20,
    every: Annotated[bool, typer.Option("--all", help="Every page.")] = False,
    as_json: AsJson = False,
) -> None:
    """List invoices, newest first."""
    query = {"provider": provider, "status": status, "order_id": order_id, "provider_invoice_id": provider_invoice_id}
    with client() as api:
        page = (
            {"data": list(api.every("/v1/invoices", **query))}
            if every
            else api.get("/v1/invoices", limit=limit, **query)
        )
    show(page, page["data"], COLUMNS, as_json=as_json)
    if not as_json and page.get("partial"):
        away = ", ".join(source["provider"] for source in page["sources"] if source["state"] == "failed")
        err.print(f"Could not be asked just now: {away}", style="yellow", highlight=False, markup=False)


@invoices.command("get", epilog=EXIT_CODES)
@told
def get(
    id: Id,
    wait: Annotated[int | None, typer.Option(help="Seconds to wait for its next change.", min=0, max=60)] = None,
    refresh: Annotated[bool, typer.Option(help="Insist on asking the provider.")] = False,
    as_json: AsJson = False,
) -> None:
    """Read one invoice."""
    with client() as api:
        invoice = api.get(f"/v1/invoices/{id}", wait=wait, refresh="true" if refresh else None)
    rows = [
        {"field": name, "": value if isinstance(value, str | int) else json.dumps(value)}
        for name, value in invoice.items()
    ]
    show(invoice, rows, ("field", ""), as_json=as_json)


@invoices.command("checkout", epilog=EXIT_CODES)
@told
def checkout(
    id: Id,
    redirect_url: Annotated[str | None, typer.Option(help="Where the shopper returns to.")] = None,
    as_json: AsJson = False,
) -> None:
    """Start or resume its checkout, and print where the shopper pays."""
    with client() as api:
        visit = api.post(f"/v1/invoices/{id}/checkout", {"redirect_url": redirect_url} if redirect_url else {})
    if as_json:
        show(visit, [], (), as_json=True)
    else:
        print(visit["url"] or visit["message"] or visit["outcome"])  # noqa: T201


@told
def providers(as_json: AsJson = False) -> None:
    """What each provider can do, and how it is doing."""
    with client() as api:
        sheets = api.get("/v1/providers")
    rows = [
        {
            "name": sheet["name"],
            "kind": sheet["kind"],
            "state": sheet["health"]["state"],
            "p50 ms": sheet["health"]["p50_ms"],
            "errors": sheet["health"]["error_rate"],
            "can": " ".join(name for name, able in sheet["operations"].items() if able),
        }
        for sheet in sheets["data"]
    ]
    show(sheets, rows, ("name", "kind", "state", "p50 ms", "errors", "can"), as_json=as_json)


@events.command("tail", epilog=EXIT_CODES)
@told
def tail(
    type: Annotated[str | None, typer.Option(help="As invoice.completed.")] = None,
    invoice: Annotated[str | None, typer.Option(help="Of one invoice.")] = None,
    cursor: Annotated[str | None, typer.Option(help="Go on from here; the last one is shown at the end.")] = None,
    from_start: Annotated[bool, typer.Option(help="Tell what has happened so far, too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Follow the events until interrupted."""
    query = {"type": type, "invoice_id": invoice}
    with client() as api:
        place = cursor if cursor or from_start else end_of(api)
        try:
            while True:
                page = api.get("/v1/events", cursor=place, wait=FOLLOWED_SECONDS, limit=100, **query)
                for event in page["data"]:
                    print(json.dumps(event) if as_json else line(event), flush=True)  # noqa: T201
                place = page["next_cursor"]
        except KeyboardInterrupt:
            err.print(f"To go on: --cursor {place}", highlight=False, markup=False)


def end_of(api: Client) -> str:
    """Where the feed ends just now."""
    page = api.get("/v1/events", limit=100)
    while page["has_more"]:
        page = api.get("/v1/events", cursor=page["next_cursor"], limit=100)
    place: str = page["next_cursor"]
    return place


def line(event: Mapping[str, Any]) -> str:
    data = event["data"]
    money = f"{data['amount']} {data['currency']}" if data.get("amount") else "-"
    return f"{event['timestamp']}  {event['type']:<24}  {event['invoice_id']}  {data['provider']}  {money}"


@told
def reconcile(
    every: Annotated[bool, typer.Option("--all", help="Every invoice that is not finished.")] = False,
    as_json: AsJson = False,
) -> None:
    """Ask the providers about every unfinished invoice now; exit 1 if some could not be asked."""
    if not every:
        usage("--all says that every unfinished invoice is meant")
    changed, failed = 0, 0
    with client() as api:
        found = [one for status in UNFINISHED for one in api.every("/v1/invoices", status=status)]
        with Progress(console=err, disable=as_json, transient=True) as progress:
            for before in progress.track(found, description="Asking"):
                try:
                    now = api.get(f"/v1/invoices/{before['id']}", refresh="true")
                except Refused as error:
                    failed += 1
                    tell(error.problem)
                    continue
                changed += now["version"] > before["version"]
    summary = {"asked": len(found), "changed": changed, "failed": failed}
    show(summary, [summary], tuple(summary), as_json=as_json)
    if failed:
        raise typer.Exit(1)
