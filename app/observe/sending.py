"""Spans go to a collector over OTLP: imported only where one is named, for its libraries are an extra."""

import logging
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer


def tracer() -> Tracer:
    """What is still to be sent is sent when the process ends."""
    logging.getLogger("opentelemetry.util.re").setLevel(logging.CRITICAL)  # it repeats the header that it cannot read
    ours = version("gatehouse")
    named = {SERVICE_NAME: "gatehouse", SERVICE_VERSION: ours, **OTELResourceDetector().detect().attributes}
    provider = TracerProvider(resource=Resource.create(named))
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider.get_tracer("gatehouse", ours)
