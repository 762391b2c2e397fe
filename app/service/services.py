"""Everything that the doors may ask for, in one value."""

from dataclasses import dataclass

from app.service.addresses import Addresses
from app.service.catalog import Catalog
from app.service.checkouts import Checkouts
from app.service.clock import Clock
from app.service.creation import Creation
from app.service.deliveries import Deliveries
from app.service.feed import Feed
from app.service.history import History
from app.service.idempotency import Idempotency
from app.service.invoices import Invoices
from app.service.listing import Listing
from app.service.notifications import Notifications
from app.service.operators import Operators
from app.service.pauses import Pauses
from app.service.reconcile import Reconcile
from app.service.retention import Retention
from app.service.watch import Watch
from app.storage.store import Store


@dataclass(frozen=True, slots=True, kw_only=True)
class Services:
    clock: Clock
    store: Store
    addresses: Addresses
    creation: Creation
    idempotency: Idempotency
    invoices: Invoices
    checkouts: Checkouts
    operators: Operators
    listing: Listing
    catalog: Catalog
    reconcile: Reconcile
    notifications: Notifications
    deliveries: Deliveries
    feed: Feed
    watch: Watch
    history: History
    pauses: Pauses
    retention: Retention
