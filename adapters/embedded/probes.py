"""Ask a port whether a server of a protocol answers there."""

import asyncio
import struct

_TIMEOUT = 2.0  # seconds
_HTTP2_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_HTTP2_EMPTY_SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
_HTTP2_SETTINGS_TYPE = 4
_KAFKA_API_VERSIONS = 18
_KAFKA_CORRELATION = 7


async def answers_kafka(port: int) -> bool:
    """Whether a Kafka broker answers an ApiVersions request (version 0) on a loopback port."""
    request = struct.pack(">hhih", _KAFKA_API_VERSIONS, 0, _KAFKA_CORRELATION, -1)
    answer = await _ask(port, struct.pack(">i", len(request)) + request, 8)
    return answer is not None and struct.unpack(">ii", answer)[1] == _KAFKA_CORRELATION


async def answers_http2(port: int) -> bool:
    """Whether an HTTP/2 server, as under gRPC, answers the preface with its SETTINGS.

    RFC 9113 §3.4.
    """
    answer = await _ask(port, _HTTP2_PREFACE + _HTTP2_EMPTY_SETTINGS, 9)
    return answer is not None and answer[3] == _HTTP2_SETTINGS_TYPE


async def _ask(port: int, request: bytes, size: int) -> bytes | None:
    """The first ``size`` bytes of an answer, or None where nothing answers in time."""
    writer: asyncio.StreamWriter | None = None
    try:
        async with asyncio.timeout(_TIMEOUT):
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(request)
            return await reader.readexactly(size)
    except (OSError, TimeoutError, asyncio.IncompleteReadError):
        return None
    finally:
        if writer is not None:
            writer.close()
