"""The metrics and health server, over real sockets."""

import asyncio
import json
import socket
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest
import uvloop

from ingest import http
from ingest.errors import Misconfigured
from ingest.http import Activity, Condition, HttpServer, Verdict
from ingest.metrics import Metrics

HERE = "127.0.0.1"
GOOD = Verdict(
    [Condition("kafka", True, "joined with 3 partitions"), Condition("postgres", True, "reachable")]
)
BAD = Verdict(
    [Condition("kafka", True, "joined"), Condition("postgres", False, "connection refused since 12 s")]
)


@dataclass
class Service:
    """A service that answers as a test tells it to."""

    alive: Verdict = GOOD
    readiness: Verdict = GOOD
    activity: dict[str, Activity] = field(default_factory=dict)
    broken: bool = False

    def live(self) -> Verdict:
        return self.alive

    def ready(self) -> Verdict:
        if self.broken:
            raise RuntimeError("a bug")
        return self.readiness

    def health(self) -> Mapping[str, Activity]:
        return self.activity


@asynccontextmanager
async def serving(service: Service, timeout: float = 5.0) -> AsyncIterator[HttpServer]:
    async with HttpServer(HERE, 0, Metrics("1.2.3"), service, timeout) as server:
        yield server


async def exchange(server: HttpServer, request: bytes) -> tuple[int, dict[str, str], str]:
    """Send bytes, read until the server closes; status, headers and body."""
    reader, writer = await asyncio.open_connection(HERE, server.port)
    writer.write(request)
    async with asyncio.timeout(20):
        received = await reader.read()
    writer.close()
    head, _, body = received.decode().partition("\r\n\r\n")
    status, *fields = head.split("\r\n")
    return int(status.split(" ")[1]), dict(f.lower().split(": ", 1) for f in fields), body


async def get(server: HttpServer, path: str, headers: str = "") -> tuple[int, dict[str, str], str]:
    return await exchange(server, f"GET {path} HTTP/1.1\r\nHost: x\r\n{headers}\r\n".encode())


async def test_a_scrape_is_the_prometheus_text_format() -> None:
    async with serving(Service()) as server:
        status, headers, body = await get(server, "/metrics")
    assert status == 200
    assert headers["content-type"].startswith("text/plain; version=0.0.4")
    assert int(headers["content-length"]) == len(body.encode())
    assert 'activity_ingest_build_info{python="' in body
    assert body.endswith("\n")


async def test_a_scraper_that_prefers_openmetrics_gets_it() -> None:
    async with serving(Service()) as server:
        _, headers, body = await get(
            server, "/metrics", "Accept: application/openmetrics-text; version=1.0.0\r\n"
        )
    assert headers["content-type"].startswith("application/openmetrics-text")
    assert body.endswith("# EOF\n")


async def test_a_scrape_tells_whether_the_service_is_ready() -> None:
    service = Service(readiness=BAD)
    async with serving(service) as server:
        assert "activity_ingest_ready 0.0" in (await get(server, "/metrics"))[2]
        service.readiness = GOOD
        assert "activity_ingest_ready 1.0" in (await get(server, "/metrics"))[2]


async def test_readiness_names_every_condition_and_what_was_found() -> None:
    async with serving(Service(readiness=BAD)) as server:
        status, _, body = await get(server, "/readyz")
    assert status == 503
    assert body == "not ready\n[ok] kafka: joined\n[no] postgres: connection refused since 12 s\n"


async def test_liveness_does_not_depend_on_readiness() -> None:
    async with serving(Service(readiness=BAD)) as server:
        status, _, body = await get(server, "/livez")
    assert status == 200
    assert body.startswith("live\n")


def test_a_verdict_gives_the_reasons_for_a_no() -> None:
    assert not BAD.ok
    assert BAD.reasons == ["postgres: connection refused since 12 s"]


async def test_activity_health_is_json_by_projection() -> None:
    flushed = datetime(2026, 11, 21, 10, 0, tzinfo=UTC)
    service = Service(
        activity={"streaks": Activity(7, 5000, 1.0, flushed, 12), "new": Activity(0, 10, 0.5, None, None)}
    )
    async with serving(service) as server:
        status, headers, body = await get(server, "/health/activity?pretty")
    assert status == 200
    assert headers["content-type"] == "application/json"
    names = ("bufferSize", "maxBufferSize", "flushInterval", "lastFlush", "lag")
    assert json.loads(body) == {
        "streaks": dict(zip(names, (7, 5000, 1.0, "2026-11-21T10:00:00Z", 12), strict=True)),
        "new": dict(zip(names, (0, 10, 0.5, None, None), strict=True)),
    }


async def test_head_gives_the_length_and_no_body() -> None:
    async with serving(Service()) as server:
        _, _, body = await get(server, "/livez")
        status, headers, nothing = await exchange(server, b"HEAD /livez HTTP/1.1\r\nHost: x\r\n\r\n")
    assert status == 200
    assert int(headers["content-length"]) == len(body)
    assert nothing == ""


@pytest.mark.parametrize(
    ("request_bytes", "status"),
    [
        (b"GET /nowhere HTTP/1.1\r\n\r\n", 404),
        (b"GET /metrics/ HTTP/1.1\r\n\r\n", 404),
        (b"POST /metrics HTTP/1.1\r\nContent-Length: 5\r\n\r\nhello", 405),
        (b"GET /metrics HTTP/2.0\r\n\r\n", 505),
        (b"GET /metrics\r\n\r\n", 400),
        (b"get /metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET metrics HTTP/1.1\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nno colon\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nAccept : x\r\n\r\n", 400),
        (b"GET /metrics HTTP/1.1\r\nAccept: x\r\n folded\r\n\r\n", 400),
        (b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n", 400),
        (b"\r\n\r\n", 400),
        (b"GET /" + b"a" * 40_000 + b" HTTP/1.1\r\n\r\n", 431),
        (b"GET /livez HTTP/1.1\r\n" + b"X: y\r\n" * 20_000 + b"\r\n", 431),
        (b"GET /livez HTTP/1.0\r\n\r\n", 200),
        (b"GET /livez HTTP/1.1\r\nContent-Length: 900000\r\n\r\n" + b"x" * 900_000, 200),
    ],
)  # fmt: skip
async def test_a_strange_request_gets_its_status_and_harms_nobody(request_bytes: bytes, status: int) -> None:
    async with serving(Service()) as server:
        assert (await exchange(server, request_bytes))[0] == status
        assert (await get(server, "/livez"))[0] == 200


async def test_a_request_that_never_ends_is_answered_and_dropped() -> None:
    async with serving(Service(), timeout=0.05) as server:
        status, _, _ = await exchange(server, b"GET /livez HTTP/1.1\r\nHost: x\r\nX-Slow: ")
    assert status == 408


async def test_a_client_that_does_not_take_its_answer_is_dropped() -> None:
    service = Service(readiness=Verdict([Condition("x", True, "y" * 50_000_000)]))
    async with serving(service, timeout=0.2) as server:
        with socket.create_connection((HERE, server.port)) as idle:
            idle.setblocking(False)
            idle.send(b"GET /readyz HTTP/1.1\r\n\r\n")
            await get(server, "/livez")  # answered, so the connection made before it was accepted too
            assert server._connections
            async with asyncio.timeout(10):
                await asyncio.gather(*server._connections)
    assert not server._connections


async def test_idle_connections_cannot_keep_a_scrape_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "MAX_CONNECTIONS", 4)
    async with serving(Service(), timeout=60) as server:
        hoarded = [await asyncio.open_connection(HERE, server.port) for _ in range(10)]
        assert (await get(server, "/metrics"))[0] == 200
        assert len(server._connections) <= 5
        for _, writer in hoarded:
            writer.close()


def test_the_event_loop_of_the_worker_serves_as_well() -> None:
    async def large_answer() -> str:
        async with serving(Service(readiness=Verdict([Condition("x", False, "y" * 5_000_000)]))) as server:
            return (await get(server, "/readyz"))[2]

    assert len(uvloop.run(large_answer())) > 5_000_000


async def test_a_hundred_scrapes_at_once_are_all_answered() -> None:
    async with serving(Service()) as server:
        answers = await asyncio.gather(*(get(server, "/metrics") for _ in range(100)))
    assert [status for status, _, _ in answers] == [200] * 100
    assert all(int(headers["content-length"]) == len(body.encode()) for _, headers, body in answers)


async def test_a_question_that_fails_is_an_error_and_the_server_lives_on() -> None:
    service = Service(broken=True)
    async with serving(service) as server:
        status, _, body = await get(server, "/readyz")
        assert (status, body) == (500, "failed; the log says why\n")
        service.broken = False
        assert (await get(server, "/readyz"))[0] == 200


async def test_a_port_in_use_is_told_with_its_mend() -> None:
    async with serving(Service()) as server:
        second = HttpServer(HERE, server.port, Metrics("1"), Service())
        with pytest.raises(Misconfigured, match=f"port {server.port} .* is in use") as caught:
            await second.start()
    assert "ACTIVITY_HTTP__PORT" in caught.value.mend


async def test_an_address_of_another_machine_is_told_with_its_mend() -> None:
    with pytest.raises(Misconfigured, match=r"cannot listen on 203\.0\.113\.1:0") as caught:
        await HttpServer("203.0.113.1", 0, Metrics("1"), Service()).start()
    assert "ACTIVITY_HTTP__HOST" in caught.value.mend


async def test_stopping_frees_the_port_and_drops_who_is_connected() -> None:
    server = HttpServer(HERE, 0, Metrics("1"), Service(), timeout=60)
    await server.start()
    reader, writer = await asyncio.open_connection(HERE, server.port)
    writer.write(b"GET /li")
    await get(server, "/livez")
    async with asyncio.timeout(10):
        await server.stop()
        with pytest.raises((ConnectionError, asyncio.IncompleteReadError)):
            await reader.readexactly(1)
    writer.close()
    async with HttpServer(HERE, server.port, Metrics("1"), Service()) as again:
        assert (await get(again, "/livez"))[0] == 200
