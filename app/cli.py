"""The `gatehouse` command."""

import asyncio
import json
import os
import signal
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, NoReturn

import msgspec
import typer
import uvicorn
from pydantic import SecretStr
from rich.console import Console
from starlette.applications import Starlette

from app import commands, scaffold, terminal
from app.api.openapi import document
from app.configured import accounts, addresses_of, keys_of, sandbox_keys
from app.doctor import Finding, examine
from app.domain.errors import Overloaded
from app.main import create_app, open_services, production_app, working
from app.observe import configure_logging, hush, tracer_of
from app.providers import WrongSettings, kinds
from app.server import Beside, Draining, Workers, configured
from app.service.keys import Keys
from app.settings import SANDBOX_KEY, SANDBOX_WEBHOOK_SECRET, Mode, Settings, SettingsError, load
from app.shop import create_shop
from app.simulator import SandboxProtocol, create_sandbox, credentials
from app.storage import store
from app.storage.failures import StoreUnusable

BAD_CONFIGURATION = 78  # EX_CONFIG of sysexits.h

COLOURS = {"good": "green", "doubtful": "yellow", "wrong": "red"}

app = typer.Typer(help="One REST API in front of many payment providers.", no_args_is_help=True, add_completion=False)
err = Console(stderr=True)

app.add_typer(commands.invoices, name="invoices")
app.add_typer(commands.events, name="events")
app.command(epilog=commands.EXIT_CODES)(commands.providers)
app.command(epilog=commands.EXIT_CODES)(commands.reconcile)

Host = Annotated[str, typer.Option(help="The address to listen on.")]
Port = Annotated[int, typer.Option(help="The port to listen on.", min=1, max=65535)]


@app.command()
def serve(
    host: Host = "127.0.0.1",
    port: Port = 8000,
    workers: Annotated[int, typer.Option(help="How many processes; more than one needs PostgreSQL.", min=1)] = 1,
    sandbox_port: Annotated[int | None, typer.Option(help="Where the simulators listen; default: port + 1.")] = None,
) -> None:
    """Run the service; without providers and keys, on loopback, with four simulated providers beside it."""
    settings = load()
    configure_logging(settings.log_level)
    mode = settings.mode(host)
    if workers > 1:
        serve_many(settings, mode, host, port, workers)
        return
    asyncio.run(store.prepare(settings.database_url, migrating=settings.auto_migrate))
    if mode is Mode.SANDBOX:
        asyncio.run(serve_with_sandbox(settings, host, port, sandbox_port or port + 1))
    else:
        asyncio.run(drained(settings, production_app(settings), host, port).serve())


@app.command()
def sandbox(
    host: Host = "127.0.0.1",
    port: Port = 9000,
    notify: Annotated[str, typer.Option(help="The service that is told of payments.")] = "http://127.0.0.1:8000",
) -> None:
    """Run the simulated providers and the demo shop alone."""
    configure_logging("info")
    settings = load()
    play = played(settings, f"http://{host}:{port}", notify)
    asyncio.run(uvicorn.Server(configured(play, host, port, http=SandboxProtocol)).serve())


@app.command()
def worker() -> None:
    """Run the background work alone, beside any number of replicas on PostgreSQL."""
    settings = load()
    if not settings.providers:
        raise SettingsError(["GATEHOUSE_PROVIDERS__<NAME>__… is missing: there is nobody to ask"])
    configure_logging(settings.log_level)
    asyncio.run(work(settings))


@app.command()
def migrate() -> None:
    """Bring the database's schema to head."""
    asyncio.run(store.prepare(load().database_url))


@app.command()
def doctor(*, as_json: commands.AsJson = False) -> None:
    """Check the settings, the store and each provider's credentials; exit 1 if something is wrong."""
    hush()
    findings = asyncio.run(examined(quiet=as_json))
    wrong = any(finding.state == "wrong" for finding in findings)
    if as_json:
        terminal.document({"healthy": not wrong, "data": [asdict(finding) for finding in findings]})
    if wrong:
        raise typer.Exit(1)


@app.command("new-provider")
def new_provider(
    name: Annotated[str, typer.Argument(help="As callers and settings will name it, in small letters.")],
) -> None:
    """Write a new provider's files, in a checkout: a small working example of each, to be made into the real one."""
    try:
        written = scaffold.write(name, Path.cwd())
    except scaffold.NotWritten as error:
        raise typer.BadParameter(str(error)) from None
    for path in written:
        terminal.say(str(path.relative_to(Path.cwd())))
    terminal.say("Then: make openapi, which describes it too, and make check", aside=True)


@app.command()
def openapi() -> None:
    """Print the API's description, as JSON."""
    described = document(create_app(Settings(), provider_settings={}, keys=Keys()))
    print(msgspec.json.format(msgspec.json.encode(described)).decode())  # noqa: T201


async def examined(*, quiet: bool) -> list[Finding]:
    """Each is told as soon as it is known."""
    findings = []
    async for finding in examine():
        findings.append(finding)
        if not quiet:
            terminal.say(str(finding), COLOURS[finding.state])
    return findings


def serve_many(settings: Settings, mode: Mode, host: str, port: int, workers: int) -> None:
    """Every process makes its own service from the same environment, and all listen on one socket."""
    if mode is Mode.SANDBOX or settings.database_url.startswith("sqlite"):
        stop("--workers: the sandbox and SQLite serve one process; set GATEHOUSE_DATABASE_URL to postgresql://…")
    create_app(settings, provider_settings=settings.providers, keys=keys_of(settings))  # says what is wrong, once
    before, during = settings.drain
    service = "app.main:from_environment"
    Workers(configured(service, host, port, workers=workers, timeout_graceful_shutdown=round(during)), before).run()


async def work(settings: Settings) -> None:
    """Until SIGTERM or SIGINT; what is under way then is given back."""
    ended = asyncio.Event()
    for sig in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(sig, ended.set)
    providers, tracer = accounts(settings, settings.providers), tracer_of(os.environ)
    async with open_services(settings, providers, addresses_of(settings), tracer=tracer) as services, working(services):
        await ended.wait()


async def serve_with_sandbox(settings: Settings, host: str, port: int, sandbox_port: int) -> None:
    here, there = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{sandbox_port}"
    public = str(settings.public_url) if "public_url" in settings.model_fields_set else here
    keys = sandbox_keys(settings, host)
    signing = settings.webhook_secret or (SecretStr(SANDBOX_WEBHOOK_SECRET),)
    private = settings.allow_private_networks or "allow_private_networks" not in settings.model_fields_set
    settings = settings.model_copy(update={"webhook_secret": signing, "allow_private_networks": private})
    tracer = tracer_of(os.environ)
    service = create_app(settings, provider_settings=credentials(there), keys=keys, public_url=public, tracer=tracer)
    simulators = played(settings, there, here)
    name, kind = next(iter(kinds().items()))
    example = json.dumps({"provider": name, **kind.example})
    key = SANDBOX_KEY if keys.find(SANDBOX_KEY) else "<your key>"
    hint = WHAT_TO_TRY.format(here=here, there=there, example=example, key=key)
    err.print(hint, highlight=False, markup=False, soft_wrap=True)
    main = drained(settings, service, host, port)
    play = Beside(configured(simulators, host, sandbox_port, http=SandboxProtocol))
    playing = asyncio.create_task(play.serve())
    await main.serve()
    play.should_exit = True
    await playing


def played(settings: Settings, url: str, service: str) -> Starlette:
    """The fake providers and a demo shop at `url`, for the service at another address."""
    simulators = create_sandbox(url, notify=service)
    key = settings.key.get_secret_value() if settings.key else SANDBOX_KEY
    secrets = [secret.get_secret_value() for secret in settings.webhook_secret]
    shop = create_shop(url=f"{url}/shop", api=service, key=key, webhook_secret=(secrets or [SANDBOX_WEBHOOK_SECRET])[0])
    simulators.mount("/shop", shop)
    return simulators


def drained(settings: Settings, application: Any, host: str, port: int) -> Draining:
    before, during = settings.drain
    return Draining(configured(application, host, port, timeout_graceful_shutdown=round(during)), before)


WHAT_TO_TRY = """
Gatehouse, sandbox mode: four simulated providers, play money, key {key}

  service     {here}        documentation  {here}/docs
  simulators  {there}        demo shop      {there}/shop/

Create an invoice, then open its checkout:

  curl -s {here}/v1/invoices -H 'Authorization: Bearer {key}' \\
    -H 'Content-Type: application/json' \\
    -d '{example}'
  curl -s -X POST {here}/v1/invoices/<id>/checkout -H 'Authorization: Bearer {key}'
"""


def main() -> None:
    """Run the command; a wrong setting ends it with its name and exit code 78."""
    try:
        app()
    except (SettingsError, WrongSettings) as error:
        stop(*error.faults)
    except (StoreUnusable, Overloaded) as error:
        stop(str(error))


def stop(*reasons: str) -> NoReturn:
    for reason in reasons:
        err.print(reason, style="red", highlight=False, markup=False, soft_wrap=True)
    sys.exit(BAD_CONFIGURATION)
