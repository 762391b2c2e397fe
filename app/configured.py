"""What the settings say, as the parts of the house."""

from collections.abc import Mapping
from datetime import timedelta
from secrets import token_urlsafe
from time import monotonic

import httpx
from limits.aio.storage import RedisStorage
from limits.errors import ConfigurationError
from pydantic import SecretStr

from app.api.rate_limiter import RateLimiter, Shared
from app.api.rate_limits import Limits
from app.exchange import Exchange
from app.provider import Provider
from app.providers import build
from app.service.addresses import Addresses
from app.service.buckets import Policy, TokenBuckets
from app.service.clock import Clock, Ticks, utc_now
from app.service.destinations import Destinations
from app.service.keys import Caller, Keys, Role
from app.service.routing import Routing, Rule
from app.service.signing import Signer
from app.settings import LOOPBACK, SANDBOX_KEY, Settings, SettingsError
from app.wire import Proxied, Wire

# Calls to one provider, and through a proxy events to all receivers.
CALLS_AT_ONCE, MESSAGES_AT_ONCE = 32, 512
OPENED = "GATEHOUSE_ALLOW_PRIVATE_NETWORKS=on opens private networks and plain http"


def accounts(
    settings: Settings, provider_settings: Mapping[str, Mapping[str, str]], clock: Clock = utc_now
) -> Mapping[str, Provider]:
    """The configured providers; WrongSettings and SettingsError say what is wrong with them, and with our receiver."""
    providers = build(provider_settings, timeout=settings.provider_timeout, clock=clock)
    destinations = destinations_of(settings)
    where = {f"PROVIDERS__{name.upper()}__BASE_URL": provider.base_url for name, provider in providers.items()}
    judged = {name: destinations.host_fault(str(url)) for name, url in where.items()}
    wrong = [f"GATEHOUSE_{name} {fault}" for name, fault in judged.items() if fault]
    if settings.webhook_url and (fault := destinations.callback_fault(str(settings.webhook_url))):
        wrong.append(f"GATEHOUSE_WEBHOOK_URL {fault}")
    if wrong:
        raise SettingsError([*wrong, OPENED])
    return providers


def longest(providers: Mapping[str, Provider]) -> timedelta:
    """What the most patient provider may take for one operation."""
    return timedelta(seconds=max((provider.timeout for provider in providers.values()), default=0))


def destinations_of(settings: Settings) -> Destinations:
    return Destinations(
        private=settings.allow_private_networks,
        callback_ports=frozenset(settings.callback_ports),
        redirect_hosts=frozenset(host.lower() for host in settings.redirect_hosts),
    )


def wire(settings: Settings, destinations: Destinations, at_once: int = CALLS_AT_ONCE) -> httpx.AsyncBaseTransport:
    """Straight out, or through a proxy, which then guards the addresses too; so many calls to one of either."""
    if settings.egress_proxy:
        return Proxied(str(settings.egress_proxy), connections=at_once)
    return Wire(permits=destinations.permits, connections=min(at_once, CALLS_AT_ONCE))


def routing(settings: Settings, providers: Mapping[str, Provider], exchange: Exchange) -> Routing:
    """SettingsError, where a rule names a provider that there isn't."""
    if any(name not in providers for route in settings.routes for name in route.providers):
        raise SettingsError(["GATEHOUSE_ROUTES names a provider that is not configured"])
    rules = [
        Rule(
            providers=route.providers,
            currencies=route.currencies,
            least=route.min,
            most=route.max,
            countries=route.countries,
        )
        for route in settings.routes
    ]
    return Routing(providers=providers, rules=rules, serves=lambda provider: exchange.lane(provider).serves)


def keys_of(settings: Settings) -> Keys:
    return Keys((key.secret, Caller(name=key.name, role=Role[key.role.upper()])) for key in settings.api_keys)


def sandbox_keys(settings: Settings, host: str) -> Keys:
    """Where none are set, on loopback the one that everybody knows, and elsewhere none."""
    if settings.api_keys or host not in LOOPBACK:
        return keys_of(settings)
    return Keys([(SecretStr(SANDBOX_KEY), Caller(name="sandbox", role=Role.ADMIN))])


def limits_of(settings: Settings, ticks: Ticks = monotonic) -> Limits | None:
    """None where they are off; SettingsError, where they are to be shared and can't be."""
    if settings.rate_limit is None:
        return None
    policy = Policy("key", per_second=settings.rate_limit, burst=2 * settings.rate_limit)
    callers: RateLimiter = TokenBuckets(policy, ticks)
    if settings.redis_url:
        callers = Shared(shared_storage(settings.redis_url), TokenBuckets(policy, ticks))
    return Limits.of(callers, settings.trusted_proxies, ticks)


def shared_storage(url: SecretStr) -> RedisStorage:
    try:
        return RedisStorage(url.get_secret_value(), wrap_exceptions=True, implementation="redispy")
    except (ConfigurationError, ValueError):
        raise SettingsError(["GATEHOUSE_REDIS_URL must be redis:// or rediss://"]) from None


def addresses_of(settings: Settings, public_url: str | None = None) -> Addresses:
    return Addresses(public_url=(public_url or str(settings.public_url)).rstrip("/"), signer=signer_of(settings))


def signer_of(settings: Settings) -> Signer:
    """With a random secret where none is set, which only the sandbox allows."""
    return Signer(secret=settings.secret_key or SecretStr(token_urlsafe(32)), earlier=settings.secret_key_previous)
