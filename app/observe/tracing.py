"""Whether spans are sent anywhere, which the environment says in OpenTelemetry's own names."""

from collections.abc import Mapping
from importlib import import_module

import structlog
from opentelemetry.trace import Tracer

log = structlog.get_logger()

SENDER = "app.observe.sending"


def tracer_of(environment: Mapping[str, str]) -> Tracer | None:
    """None, where nothing is to be sent; what cannot be sent is told, and stops nothing else."""
    if not wanted(environment):
        return None
    if fault := fault_of(environment):
        log.warning("spans.unsent", why=fault)
        return None
    try:
        tracer: Tracer = import_module(SENDER).tracer()
    except ModuleNotFoundError:
        log.warning("spans.unsent", why="gatehouse[otel] is not installed")
    except ValueError as error:
        log.warning("spans.unsent", why=f"an OTEL_… setting makes no sense: {error}")
    else:
        return tracer
    return None


def wanted(environment: Mapping[str, str]) -> bool:
    disabled = said(environment, "OTEL_SDK_DISABLED").lower() == "true"
    exporter = said(environment, "OTEL_TRACES_EXPORTER")
    if disabled or exporter == "none":
        return False
    return bool(exporter or said(environment, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT"))


def fault_of(environment: Mapping[str, str]) -> str | None:
    if said(environment, "OTEL_TRACES_EXPORTER") not in {"", "otlp"}:
        return "OTEL_TRACES_EXPORTER can be otlp or none"
    protocol = said(environment, "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
    if protocol not in {"", "http/protobuf"}:
        return "OTEL_EXPORTER_OTLP_PROTOCOL can only be http/protobuf"
    return None


def said(environment: Mapping[str, str], *names: str) -> str:
    """Under the first of these names that says anything."""
    return next((word for name in names if (word := environment.get(name, "").strip())), "")
