"""Every setting, from the environment, .env or /run/secrets; a wrong or missing one stops the start by its name."""

import json
import os
import re
from base64 import b64decode
from collections.abc import Iterable, Mapping
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from dotenv import dotenv_values
from pydantic import (
    AfterValidator,
    AnyHttpUrl,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    IPvAnyNetwork,
    SecretStr,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    NestedSecretsSettingsSource,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
)

PREFIX = "GATEHOUSE_"
PROVIDERS = f"{PREFIX}PROVIDERS__"
ENV_FILE = Path(".env")
SECRETS_DIR = Path("/run/secrets")
INJECTED_BY_KUBERNETES = re.compile(r"GATEHOUSE_(PORT|SERVICE_).*")
HOST = re.compile(r"(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?", re.ASCII | re.IGNORECASE)
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
SHORTEST_KEY = 16
SHORTEST_SECRET = 32
SANDBOX_KEY = "sandbox-admin-key"
SANDBOX_WEBHOOK_SECRET = "whsec_c2FuZGJveC13ZWJob29rLXNlY3JldC0wMDAx"  # noqa: S105  # it signs play money

RoleName = Literal["read", "write", "admin"]


class SettingsError(Exception):
    """What stops the start: one line for each setting, by its name and never with its value."""

    def __init__(self, faults: Iterable[str]) -> None:
        self.faults = list(faults)
        super().__init__("\n".join(self.faults))


def listed(value: object) -> object:
    return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value


def rated(value: object) -> object:
    return None if value == "off" else value


def parsed(value: object) -> object:
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value, parse_float=Decimal)
    except ValueError:
        raise ValueError("must be JSON: a list of objects") from None


def host(text: str) -> str:
    if not HOST.fullmatch(text):
        raise ValueError("must be hosts such as example.org or example.org:8443")
    return text


def webhook_secret(secret: SecretStr) -> SecretStr:
    """As Standard Webhooks writes it: whsec_ and the base64 of at least 16 bytes."""
    text = secret.get_secret_value()
    try:
        key = b64decode(text.removeprefix("whsec_"), validate=True)
    except ValueError:
        key = b""
    if not text.startswith("whsec_") or len(key) < SHORTEST_KEY:
        raise ValueError(f"must be whsec_ and the base64 of at least {SHORTEST_KEY} bytes")
    return secret


Listed = BeforeValidator(listed)
Seconds = Annotated[tuple[Annotated[float, Field(gt=0)], ...], Listed, Field(min_length=1)]
Secret = Annotated[SecretStr, Field(min_length=1)]
WebhookSecret = Annotated[SecretStr, AfterValidator(webhook_secret)]
SigningKey = Annotated[SecretStr, Field(min_length=SHORTEST_SECRET)]


class ApiKey(BaseModel):
    model_config = ConfigDict(frozen=True, hide_input_in_errors=True)

    name: Annotated[str, Field(min_length=1, max_length=64)]
    role: RoleName
    secret: Annotated[SecretStr, Field(min_length=SHORTEST_KEY)]


class Route(BaseModel):
    """Amounts are in major units of whatever the currency is, both ends included."""

    model_config = ConfigDict(frozen=True, extra="forbid", hide_input_in_errors=True)

    providers: Annotated[tuple[str, ...], Field(min_length=1)]
    currencies: frozenset[Annotated[str, Field(pattern=r"^[A-Z0-9]{2,10}$")]] | None = None
    min: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None
    max: Annotated[Decimal, Field(ge=0, allow_inf_nan=False)] | None = None
    countries: frozenset[Annotated[str, Field(pattern=r"^[A-Z]{2}$")]] | None = None


class Mode(Enum):
    """Whether real accounts are served, or the simulators with play money."""

    PRODUCTION = "production"
    SANDBOX = "sandbox"


class Settings(BaseSettings):
    """Names are those of the environment without their prefix, in lower case; times are in seconds."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_nested_delimiter="__",
        enable_decoding=False,
        extra="ignore",
        frozen=True,
        hide_input_in_errors=True,
    )

    database_url: str = "sqlite:///./gatehouse.db"
    api_keys: tuple[ApiKey, ...] = ()
    secret_key: SigningKey | None = None
    secret_key_previous: SigningKey | None = None
    public_url: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8000")
    providers: dict[str, dict[str, str]] = {}
    webhook_url: AnyHttpUrl | None = None
    webhook_secret: Annotated[tuple[WebhookSecret, ...], Listed, Field(max_length=2)] = ()
    cors_origins: Annotated[tuple[str, ...], Listed] = ()
    redirect_hosts: Annotated[tuple[Annotated[str, AfterValidator(host)], ...], Listed] = ()
    routes: Annotated[tuple[Route, ...], BeforeValidator(parsed)] = ()
    worker: bool = True
    auto_migrate: bool = True
    retention_days: Annotated[int, Field(gt=0)] = 90
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    callback_ports: Annotated[tuple[Annotated[int, Field(gt=0, lt=65536)], ...], Listed] = (443, 80, 8443, 8080)
    egress_proxy: AnyHttpUrl | None = None
    trusted_proxies: Annotated[tuple[IPvAnyNetwork, ...], Listed] = ()
    url: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8000")
    key: Secret | None = None
    rate_limit: Annotated[Annotated[int, Field(gt=0)] | None, BeforeValidator(rated)] = 100
    redis_url: Secret | None = None
    max_age: Annotated[float, Field(ge=0)] = 2
    provider_timeout: Annotated[float, Field(gt=0, le=120)] = 10
    settle: Annotated[float, Field(ge=0)] = 30
    reconcile_schedule: Seconds = (10, 60, 300, 1800, 7200, 21600, 86400)
    delivery_schedule: Seconds = (5, 60, 300, 1800, 7200, 18000, 36000, 50400)
    drain: Annotated[tuple[Annotated[float, Field(ge=0)], Annotated[float, Field(ge=0)]], Listed] = (5, 15)
    sandbox: bool | None = None
    allow_private_networks: bool = False

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],  # noqa: ARG003  # pydantic-settings calls it by this name
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, dotenv_settings, NestedSecretsSettingsSource(file_secret_settings)

    @field_validator("api_keys", mode="before")
    @classmethod
    def _keys(cls, value: object) -> object:
        if not isinstance(value, str):
            return value
        parts = [part.strip().split(":", 2) for part in value.split(",") if part.strip()]
        if any(len(part) != 3 for part in parts):  # name, role, secret
            raise ValueError("each key must be name:role:secret")
        return [{"name": name, "role": role, "secret": secret} for name, role, secret in parts]

    @model_validator(mode="after")
    def _one_role_a_secret(self) -> Self:
        secrets = [key.secret.get_secret_value() for key in self.api_keys]
        if len(set(secrets)) < len(secrets):
            raise ValueError("API_KEYS has two keys with the same secret")
        return self

    def mode(self, host: str) -> Mode:
        """What is served when it listens on `host`; SettingsError where that would be a mistake."""
        if self.providers:
            return self._production()
        if self.sandbox or (self.sandbox is None and host in LOOPBACK and not self.api_keys):
            return Mode.SANDBOX
        raise SettingsError([f"{PROVIDERS}<NAME>__… is missing: no provider is configured"])

    def _production(self) -> Mode:
        if self.sandbox:
            raise SettingsError([f"{PREFIX}SANDBOX is on, but real accounts and simulators don't mix"])
        needed: dict[str, object] = {"API_KEYS": self.api_keys, "SECRET_KEY": self.secret_key}
        if self.webhook_url:
            needed["WEBHOOK_SECRET"] = self.webhook_secret
        if missing := [f"{PREFIX}{name} is missing" for name, value in needed.items() if not value]:
            raise SettingsError(missing)
        return Mode.PRODUCTION


def load(env_file: Path = ENV_FILE, secrets_dir: Path = SECRETS_DIR) -> Settings:
    """The settings of this process; SettingsError, where anything is wrong with them."""
    settings, unknown, faults = read(env_file, secrets_dir)
    if settings is None or unknown:
        raise SettingsError([*(f"{name} is not a setting" for name in unknown), *faults])
    return settings


def read(env_file: Path = ENV_FILE, secrets_dir: Path = SECRETS_DIR) -> tuple[Settings | None, list[str], list[str]]:
    """The settings where they make sense, the names that are none, and what is wrong with the others.

    The environment wins over .env, which wins over files in /run/secrets.
    """
    unknown = sorted(name for name in names_given(env_file, secrets_dir) if not known(name))
    try:
        found = Settings(_env_file=env_file, _secrets_dir=secrets_dir if secrets_dir.is_dir() else None)
    except ValidationError as error:
        return None, unknown, [fault_of(fault) for fault in error.errors()]
    return found, unknown, []


def names_given(env_file: Path, secrets_dir: Path) -> set[str]:
    """Every name with our prefix that is set anywhere; pydantic-settings passes over those it does not know."""
    files = (path.name for path in secrets_dir.iterdir() if path.is_file()) if secrets_dir.is_dir() else ()
    given = {name.upper() for name in (*os.environ, *dotenv_values(env_file), *files)}
    return {name for name in given if name.startswith(PREFIX)}


def known(name: str) -> bool:
    field = name.removeprefix(PREFIX).lower()
    is_setting = field in Settings.model_fields and field != "providers"
    return is_setting or name.startswith(PROVIDERS) or INJECTED_BY_KUBERNETES.fullmatch(name) is not None


def fault_of(found: Mapping[str, Any]) -> str:
    """One line for one fault; pydantic's own text would show the value."""
    name = str(found["loc"][0]).upper() if found["loc"] else ""
    what = found["msg"].removeprefix("Value error, ")
    return f"{PREFIX}{name} {what}" if name else f"{PREFIX}{what}"
