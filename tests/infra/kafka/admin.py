"""What an administrator of a broker does to our topics."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import IntEnum

from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from adapters.kafka.settings import KafkaSettings
from adapters.kafka.topics import TOPICS, TopicSpec

SECONDS = 30
_ALLOW = 3
_LITERAL, _PREFIXED = 3, 4
_ANY_HOST = "*"


class Resource(IntEnum):
    """What a permission is for, as the protocol numbers it."""

    TOPIC = 2
    GROUP = 3


class Operation(IntEnum):
    """What a permission allows, as the protocol numbers it."""

    READ = 3
    WRITE = 4
    CREATE = 5


@asynccontextmanager
async def administrator(settings: KafkaSettings) -> AsyncIterator[AIOKafkaAdminClient]:
    """A connected admin client."""
    admin = AIOKafkaAdminClient(**settings.client_arguments())
    await admin.start()
    try:
        yield admin
    finally:
        await admin.close()


async def delete_topics(settings: KafkaSettings, topics: Sequence[TopicSpec] = TOPICS) -> None:
    """Delete topics, if they are there, and wait until they are gone.

    The offsets that groups have committed for them go with them.
    """
    names = {topic.name for topic in topics}
    async with administrator(settings) as admin, asyncio.timeout(SECONDS):
        while found := names & set(await admin.list_topics()):
            await admin.delete_topics(sorted(found))


async def allow(
    settings: KafkaSettings, user: str, resource: Resource, name: str, operation: Operation
) -> None:
    """Let a user do something with a resource, from any host.

    A name that ends in a dot stands for all that begin with it.
    """
    pattern = _PREFIXED if name.endswith(".") else _LITERAL
    request = CreateAclsRequest(
        *(resource, name, pattern, f"User:{user}", _ANY_HOST, operation, _ALLOW)
    )
    async with administrator(settings) as admin:
        response = await admin._send_to_controller(request)
    assert [code for code, _ in response.creation_responses] == [0]
