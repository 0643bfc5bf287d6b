"""What aiokafka raises, as errors of ours."""

from collections.abc import Iterator
from contextlib import contextmanager

from aiokafka.errors import (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    KafkaError,
    TopicAuthorizationFailedError,
)

from domain.model.errors import Unavailable

_FORBIDDEN = (
    ClusterAuthorizationFailedError,
    GroupAuthorizationFailedError,
    TopicAuthorizationFailedError,
)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn what the client raises into ours.

    Args:
        doing: what was tried, to go on with "the Kafka broker could not …".

    Raises:
        Unavailable: the broker did not do it, or not in time.
    """
    try:
        yield
    except TimeoutError as exc:
        raise Unavailable(f"the Kafka broker did not {doing} in time") from exc
    except _FORBIDDEN as exc:
        raise Unavailable(
            f"the Kafka broker did not {doing}, because our user may not ({exc}); the permissions "
            "that are needed are in docs/how-to/use-your-own-servers.md"
        ) from exc
    except (KafkaError, OSError) as exc:
        raise Unavailable(f"the Kafka broker did not {doing}: {exc or type(exc).__name__}") from exc
