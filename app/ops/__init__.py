"""The operator's page: what needs a person, what became of each invoice, and what a person may do about it."""

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.routing import Mount

from app.domain.errors import PaymentError
from app.files import Files
from app.ops.actions import Actions
from app.ops.doors import Doors
from app.ops.entry import Door, Entry
from app.ops.forms import Read
from app.ops.pages import HERE, Pages
from app.ops.session import Sessions

__all__ = ["Sessions", "install"]


def install(
    app: Starlette,
    *,
    sessions: Sessions,
    secure: bool,
    read: Read,
    status_of: Callable[[type[PaymentError]], int],
) -> None:
    """Every route of the page. `app.state.services` is there once the app has started.

    `secure`: the browser comes by https. `read` reads a body within the limits that all have, `status_of` says which
    HTTP status an error has.
    """
    pages = Pages()
    entry = Entry(sessions=sessions, pages=pages, read=read, status_of=status_of, secure=secure)
    doors = Doors(pages=pages)
    actions = Actions(doors=doors, status_of=status_of)
    shown, done = entry.shown, entry.done
    app.router.routes += [
        Door("/ops", entry.front(doors.overview)),
        Door("/ops/session", entry.sign_in, methods=["POST"]),
        Door("/ops/sign-out", done(entry.sign_out), methods=["POST"]),
        Door("/ops/live", shown(doors.overview_live)),
        Door("/ops/invoices", shown(doors.invoices)),
        Door("/ops/invoices/{id}", shown(doors.invoice)),
        Door("/ops/invoices/{id}/live", shown(doors.invoice_live)),
        Door("/ops/invoices/{id}/refresh", done(actions.refresh), methods=["POST"]),
        Door("/ops/invoices/{id}/cancel", done(actions.cancel), methods=["POST"]),
        Door("/ops/invoices/{id}/resolve", done(actions.resolve), methods=["POST"]),
        Door("/ops/invoices/{id}/deliveries/{delivery}/redeliver", done(actions.redeliver), methods=["POST"]),
        Door("/ops/providers/{name}/pause", done(actions.pause), methods=["POST"]),
        Door("/ops/providers/{name}/resume", done(actions.resume), methods=["POST"]),
        Mount("/ops/static", Files(directory=HERE / "static")),
    ]
