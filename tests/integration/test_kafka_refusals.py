"""How refusals are told, by a broker and a token endpoint that do nothing else."""

import asyncio
import io
import json
import struct
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from urllib.parse import parse_qs

import pytest
from aiokafka.errors import AuthenticationFailedError
from aiokafka.protocol.admin import (
    ApiVersionResponse_v0,
    SaslAuthenticateResponse_v0,
    SaslHandShakeResponse_v1,
)

from ingest.errors import Misconfigured
from ingest.kafka import KafkaSource, Lookup
from ingest.kafka.consumer import member
from ingest.kafka.oauth import ClientCredentials
from tests.kafka import reach

NOWHERE = "127.0.0.1:1"


def oauth(url: str) -> ClientCredentials:
    return ClientCredentials(url, "me", "p w/d", "kafka")


@contextmanager
def endpoint(status: int, answer: bytes) -> Iterator[tuple[str, list[tuple[str, dict[str, list[str]]]]]]:
    """A token endpoint, and what it was asked."""
    asked: list[tuple[str, dict[str, list[str]]]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            asked.append((self.headers["authorization"], parse_qs(body)))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}/token", asked
        finally:
            server.shutdown()
            thread.join()


async def test_a_token_is_asked_for_once_and_again_before_it_expires() -> None:
    now = 100.0
    with endpoint(200, json.dumps({"access_token": "abc", "expires_in": 300}).encode()) as (url, asked):
        provider = oauth(url)
        provider.clock = lambda: now
        assert await asyncio.gather(*(provider.token() for _ in range(5))) == ["abc"] * 5
        assert asked == [
            ("Basic bWU6cCUyMHclMkZk", {"grant_type": ["client_credentials"], "scope": ["kafka"]})
        ]
        now = 369.0
        await provider.token()
        assert len(asked) == 1
        now = 371.0
        await provider.token()
        assert len(asked) == 2


async def test_a_refusing_token_endpoint_is_an_authentication_failure_and_a_broken_one_is_not() -> None:
    with endpoint(401, b"{}") as (url, _), pytest.raises(AuthenticationFailedError, match="401"):
        await oauth(url).token()
    with endpoint(503, b"") as (url, _), pytest.raises(OSError, match="503"):
        await oauth(url).token()
    with pytest.raises(OSError, match="refused"):
        await oauth(f"http://{NOWHERE}/").token()
    with pytest.raises(AuthenticationFailedError, match="must begin with"):
        await oauth("ftp://example.test").token()


@asynccontextmanager
async def refusing_broker(*, mechanism: str = "PLAIN") -> AsyncIterator[str]:
    """A broker that offers one mechanism and accepts no password."""

    def reply(key: int) -> bytes:
        if key == 18:
            return bytes(ApiVersionResponse_v0(0, [(18, 0, 0), (17, 1, 1), (36, 0, 0), (3, 0, 5)]).encode())
        if key == 17:
            return bytes(SaslHandShakeResponse_v1(0, [mechanism]).encode())
        return bytes(SaslAuthenticateResponse_v0(58, "bad password", b"").encode())

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                (size,) = struct.unpack(">i", await reader.readexactly(4))
                frame = io.BytesIO(await reader.readexactly(size))
                key, _, correlation = struct.unpack(">hhi", frame.read(8))
                body = struct.pack(">i", correlation) + reply(key)
                writer.write(struct.pack(">i", len(body)) + body)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


SASL = {
    "security_protocol": "SASL_PLAINTEXT",
    "sasl_mechanism": "PLAIN",
    "sasl_username": "u",
    "sasl_password": "p",
}


async def test_a_wrong_password_is_told_though_the_client_says_only_that_no_broker_was_reached() -> None:
    async with refusing_broker() as broker:
        connection = reach(broker, **SASL)
        with pytest.raises(Misconfigured, match="bad password"):
            await Lookup(connection).start()
        with pytest.raises(Misconfigured, match="bad password"):
            await KafkaSource(connection, "g", ["t"]).start()
        with pytest.raises(Misconfigured, match="bad password"):
            await member(connection, "g").open()


async def test_a_mechanism_that_is_not_offered_is_told() -> None:
    async with refusing_broker(mechanism="SCRAM-SHA-512") as broker:
        with pytest.raises(Misconfigured, match="does not support PLAIN"):
            await Lookup(reach(broker, **SASL)).start()
