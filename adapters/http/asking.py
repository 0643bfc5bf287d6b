"""Who asks, and what they ask with: the dependencies of routes."""

from dataclasses import dataclass
from typing import Annotated, cast

from fastapi import Depends, Header, Request

from adapters.bootstrap import Service
from adapters.http.connecting import Connection
from adapters.http.idempotency import Once, fingerprint, required_key
from adapters.settings import Settings
from domain.model.aggregate import Actor, Context
from domain.model.errors import Rejected

LONGEST_ACTOR = 200

ActorHeader = Annotated[
    str | None,
    Header(
        alias="X-Actor",
        description=(
            "Who asks, as it is recorded. Nothing checks it: the API has no roles yet, and "
            "listens on this machine only unless it is told otherwise."
        ),
        examples=["mara"],
    ),
]
RequestIdHeader = Annotated[
    str | None,
    Header(
        alias="X-Request-Id",
        description="Name of the request; recorded as the cause of what it changes.",
    ),
]


def connection_of(request: Request) -> Connection:
    """The connection to the service of the application that got this request."""
    return cast("Connection", request.app.state.connection)


Connected = Annotated[Connection, Depends(connection_of)]


def settings_of(request: Request) -> Settings:
    """The settings of the application that got this request."""
    return cast("Settings", request.app.state.settings)


Configured = Annotated[Settings, Depends(settings_of)]


def service_of(connection: Connected) -> Service:
    """The open service."""
    return connection.service


OpenedService = Annotated[Service, Depends(service_of)]


@dataclass(frozen=True)
class Caller:
    """Who asks, and the name of the request."""

    actor: Actor
    request_id: str

    def context(self, reason: str, migration: str = "") -> Context:
        """What is recorded with the events of the request."""
        return Context(
            self.actor, reason=reason, correlation_id=migration, causation_id=self.request_id
        )


def caller_of(
    request: Request, actor: ActorHeader = None, _request_id: RequestIdHeader = None
) -> Caller:
    """Who asks: the header `X-Actor`, or "anonymous".

    Raises:
        Rejected: the name is empty, too long, or has control characters.
    """
    request_id = request.state.request_id
    if actor is None:
        return Caller(Actor("anonymous", "none"), request_id)
    if not actor.strip() or len(actor) > LONGEST_ACTOR or not actor.isprintable():
        raise Rejected(f"X-Actor is a name of 1 to {LONGEST_ACTOR} printable characters")
    return Caller(Actor(actor.strip(), "http-header"), request_id)


Asking = Annotated[Caller, Depends(caller_of)]


async def once_of(
    request: Request, service: OpenedService, key: Annotated[str, Depends(required_key)]
) -> Once:
    """The request as one that must have its effect once."""
    return Once(service, key, await fingerprint(request))


Single = Annotated[Once, Depends(once_of)]
