"""The HTTP API over the service: `python -m adapters.http`, or `create_app` in another server."""
