# The program without the embedded servers: it works with PostgreSQL, Kafka and Qdrant elsewhere.
ARG PYTHON=3.11.14-slim-bookworm

FROM python:${PYTHON} AS build
ENV PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
COPY requirements/build.txt requirements/runtime.txt requirements/
# Only versions whose hashes are known. The environment gets no pip of its own.
RUN python -m venv --without-pip /opt/migration-ledger \
    && pip --python /opt/migration-ledger/bin/python install --require-hashes -r requirements/runtime.txt \
    && pip install --require-hashes -r requirements/build.txt
COPY LICENSE README.md pyproject.toml ./
COPY adapters adapters
COPY domain domain
COPY projections projections
RUN pip wheel --no-deps --no-build-isolation --wheel-dir dist . \
    && pip --python /opt/migration-ledger/bin/python install --no-deps dist/*.whl

FROM python:${PYTHON}
LABEL org.opencontainers.image.title="migration-ledger" \
      org.opencontainers.image.description="An event-sourced ledger for vector store migrations" \
      org.opencontainers.image.licenses="Apache-2.0"
COPY --from=build /opt/migration-ledger /opt/migration-ledger
# Objects are kept below the data folder, unless a bucket is configured. A volume that is mounted
# there gets its owner from here.
RUN useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin ledger \
    && install --directory --owner=10001 --group=10001 --mode=0750 /var/lib/migration-ledger /etc/migration-ledger
ENV PATH=/opt/migration-ledger/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    MIGRATION_LEDGER_DATA_DIR=/var/lib/migration-ledger
# Where the settings file migration-ledger.toml is looked for.
WORKDIR /etc/migration-ledger
USER 10001:10001
EXPOSE 8080
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=60s --timeout=15s --start-period=60s --retries=3 \
    CMD ["migration-ledger", "worker", "--check"]
ENTRYPOINT ["migration-ledger"]
CMD ["worker"]
