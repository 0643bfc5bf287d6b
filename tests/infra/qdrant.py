"""The vector store of tests: the configured one, or a node of our own that the fixtures start."""

import os

from adapters.qdrant.endpoint import Endpoint

URL = "MIGRATION_LEDGER_QDRANT_URL"
API_KEY = "MIGRATION_LEDGER_QDRANT_API_KEY"


def configured_url() -> str | None:
    """The gRPC URL that the environment names."""
    return os.environ.get(URL)


def endpoint(url: str) -> Endpoint:
    """How the product reaches it; with the key of the configured one."""
    return Endpoint(url, os.environ.get(API_KEY) if url == configured_url() else None)
