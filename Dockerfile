FROM python:3.11-slim AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /build
# --build-arg LOCK=requirements-otel.lock: what sends spans is in it too.
ARG LOCK=requirements.lock
COPY requirements.lock requirements-otel.lock requirements-build.lock ./
RUN python -m venv /backend \
    && /backend/bin/pip install --require-hashes --requirement requirements-build.lock \
    && python -m venv /opt/gatehouse \
    && /opt/gatehouse/bin/pip install --require-hashes --requirement "$LOCK"
COPY pyproject.toml README.md ./
COPY app app
RUN /backend/bin/pip wheel --no-deps --no-build-isolation --wheel-dir /wheel . \
    && /opt/gatehouse/bin/pip install --no-deps /wheel/*.whl

FROM python:3.11-slim
ENV PATH=/opt/gatehouse/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    GATEHOUSE_SANDBOX=off
RUN install --directory --owner=10001 --group=10001 /data
COPY --from=build /opt/gatehouse /opt/gatehouse
USER 10001:10001
# The database's default place is the working directory.
WORKDIR /data
VOLUME /data
EXPOSE 8000
HEALTHCHECK --interval=10s --timeout=3s --start-period=20s --retries=3 \
    CMD ["python", "-c", "from http.client import HTTPConnection as To; to = To('127.0.0.1', 8000, timeout=2); to.request('GET', '/livez'); raise SystemExit(to.getresponse().status != 200)"]
ENTRYPOINT ["gatehouse"]
CMD ["serve", "--host", "0.0.0.0"]
