"""Metrics and health over HTTP/1.1: /metrics, /livez, /readyz, /health/activity.

One request per connection, GET and HEAD only, everything bounded: a client that is slow, talks
nonsense or comes in numbers costs a little memory for a few seconds and holds up nothing else.
"""

import asyncio
import errno
import socket
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from http import HTTPStatus
from types import TracebackType
from typing import NamedTuple, Protocol, Self

import msgspec
import structlog

from ingest.errors import Misconfigured
from ingest.metrics import Metrics

MAX_HEAD = 16_384  # bytes of request line and headers
MAX_CONNECTIONS = 512
TIMEOUT = 5.0  # seconds for a request to arrive, and again for its answer to be taken
LINGER = 0.5  # seconds in which a client may finish sending what nobody reads
TEXT = "text/plain; charset=utf-8"
JSON = "application/json"
PATHS = ("/metrics", "/livez", "/readyz", "/health/activity")

log = structlog.get_logger()


@dataclass(frozen=True, slots=True)
class Condition:
    """One thing that must hold; `why` says in plain words what was found, whether it holds or not."""

    name: str
    ok: bool
    why: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """A yes where every condition holds."""

    conditions: Sequence[Condition]

    @property
    def ok(self) -> bool:
        return all(condition.ok for condition in self.conditions)

    @property
    def reasons(self) -> list[str]:
        """Why not."""
        return [f"{c.name}: {c.why}" for c in self.conditions if not c.ok]


class Activity(msgspec.Struct, frozen=True, rename="camel"):
    """How one projection is doing: buffer in rows, interval in seconds, lag in records."""

    buffer_size: int
    max_buffer_size: int
    flush_interval: float
    last_flush: datetime | None
    lag: int | None


class Probe(Protocol):
    """What the server asks of the service. Each answers at once, from what is known already."""

    def live(self) -> Verdict:
        """Whether the work goes on; where not, a restart may help."""
        ...

    def ready(self) -> Verdict:
        """Whether events become rows now."""
        ...

    def health(self) -> Mapping[str, Activity]:
        """The state of each projection by name."""
        ...


class Request(NamedTuple):
    method: str
    path: str
    accept: str


class Response(NamedTuple):
    status: HTTPStatus
    body: bytes
    content_type: str = TEXT
    headers: tuple[tuple[str, str], ...] = ()

    def encode(self, head_only: bool) -> bytes:
        """The bytes to send; the length is that of the body even where only the head is."""
        fields = [
            ("Content-Type", self.content_type),
            ("Content-Length", str(len(self.body))),
            ("Cache-Control", "no-store"),
            ("Connection", "close"),
            *self.headers,
        ]
        lines = [f"HTTP/1.1 {self.status.value} {self.status.phrase}", *(f"{n}: {v}" for n, v in fields)]
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + (b"" if head_only else self.body)


def parse(head: bytes) -> Request | Response:
    """The request that `head`, up to its empty line, makes; a Response says what is wrong with it."""
    line, *fields = head.decode("latin-1").removesuffix("\r\n\r\n").split("\r\n")
    method, _, rest = line.partition(" ")
    target, _, version = rest.partition(" ")
    if not (method.isalpha() and method.isupper() and target.startswith("/") and version.startswith("HTTP/")):
        return refusal(HTTPStatus.BAD_REQUEST, "no HTTP request")
    if version not in ("HTTP/1.1", "HTTP/1.0"):
        return refusal(HTTPStatus.HTTP_VERSION_NOT_SUPPORTED, "HTTP/1.1 is spoken here")
    accept = []
    for field in fields:
        name, colon, value = field.partition(":")
        if not colon or not name or name != name.strip() or "\n" in field or "\0" in field:
            return refusal(HTTPStatus.BAD_REQUEST, "malformed header")
        if name.lower() == "accept":
            accept.append(value.strip())
    return Request(method, target.partition("?")[0], ",".join(accept))


def refusal(status: HTTPStatus, why: str, *headers: tuple[str, str]) -> Response:
    return Response(status, f"{why}\n".encode(), TEXT, headers)


def answer(request: Request, metrics: Metrics, probe: Probe) -> Response:
    """What the request gets; raises what the probe raises."""
    if request.path not in PATHS:
        return refusal(HTTPStatus.NOT_FOUND, "not here; there are " + ", ".join(PATHS))
    if request.method not in ("GET", "HEAD"):
        return refusal(HTTPStatus.METHOD_NOT_ALLOWED, "GET and HEAD only", ("Allow", "GET, HEAD"))
    match request.path:
        case "/metrics":
            metrics.ready.set(probe.ready().ok)
            content_type, body = metrics.exposition(request.accept)
            return Response(HTTPStatus.OK, body, content_type)
        case "/health/activity":
            return Response(HTTPStatus.OK, msgspec.json.encode(probe.health()), JSON)
        case "/livez":
            return told(probe.live(), "live")
        case _:
            return told(probe.ready(), "ready")


def told(verdict: Verdict, what: str) -> Response:
    """The verdict in plain words, a line for each condition."""
    lines = [what if verdict.ok else f"not {what}"]
    lines += [f"[{'ok' if c.ok else 'no'}] {c.name}: {c.why}" for c in verdict.conditions]
    status = HTTPStatus.OK if verdict.ok else HTTPStatus.SERVICE_UNAVAILABLE
    return Response(status, "".join(f"{line}\n" for line in lines).encode())


class HttpServer:
    """Serves until stopped; use as `async with HttpServer(...)` or call `start` and `stop`."""

    def __init__(
        self, host: str, port: int, metrics: Metrics, probe: Probe, timeout: float = TIMEOUT
    ) -> None:
        self._host, self._port, self._timeout = host, port, timeout
        self._metrics, self._probe = metrics, probe
        self._server: asyncio.Server | None = None
        self._connections: dict[asyncio.Task[None], None] = {}

    @property
    def port(self) -> int:
        """The port listened on; the one chosen where 0 was asked for."""
        return self._port

    async def start(self) -> None:
        """Begin to listen. Raises Misconfigured where the address or port cannot be had."""
        try:
            self._server = await asyncio.start_server(
                self._connected, self._host, self._port, limit=MAX_HEAD, backlog=MAX_CONNECTIONS
            )
        except (OSError, OverflowError) as error:
            raise _unavailable(self._host, self._port, error) from error
        self._port = self._server.sockets[0].getsockname()[1]
        log.info("serving metrics and health", host=self._host, port=self._port)

    async def stop(self) -> None:
        """Stop listening and drop whoever is still connected."""
        if self._server is not None:
            self._server.close()
        for task in self._connections:
            task.cancel()
        await asyncio.gather(*self._connections, return_exceptions=True)
        if self._server is not None:
            await self._server.wait_closed()
            self._server = None

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        if len(self._connections) >= MAX_CONNECTIONS:
            # The oldest is the slowest; an honest request has long been answered.
            next(iter(self._connections)).cancel()
        self._connections[task] = None
        writer.transport.set_write_buffer_limits(0)  # so that `drain` waits until all is sent
        try:
            await self._serve(reader, writer)
        except (OSError, TimeoutError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # gone, too slow to take its answer, or in the way: asyncio would log a cancelled task
        finally:
            del self._connections[task]
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        response, head_only = await self._respond(reader)
        async with asyncio.timeout(self._timeout):
            writer.write(response.encode(head_only))
            await writer.drain()
            writer.write_eof()
        # Closing on unread input would reset the connection and may destroy the answer under way.
        async with asyncio.timeout(LINGER):
            while await reader.read(MAX_HEAD):
                pass

    async def _respond(self, reader: asyncio.StreamReader) -> tuple[Response, bool]:
        try:
            async with asyncio.timeout(self._timeout):
                head = await reader.readuntil(b"\r\n\r\n")
        except TimeoutError:
            return refusal(HTTPStatus.REQUEST_TIMEOUT, "no request came in time"), False
        except asyncio.LimitOverrunError:
            return refusal(HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE, "too long a request"), False
        request = parse(head)
        if isinstance(request, Response):
            return request, False
        try:
            return answer(request, self._metrics, self._probe), request.method == "HEAD"
        except Exception:
            log.exception("a health question could not be answered", path=request.path)
            return refusal(HTTPStatus.INTERNAL_SERVER_ERROR, "failed; the log says why"), False


def _unavailable(host: str, port: int, error: Exception) -> Misconfigured:
    where = f"{host}:{port}"
    if isinstance(error, OSError) and error.errno == errno.EADDRINUSE:
        return Misconfigured(
            f"port {port} for metrics and health is in use on {host}",
            "set ACTIVITY_HTTP__PORT to a free one, 0 to have one chosen, or ACTIVITY_HTTP__ENABLED=false",
        )
    if isinstance(error, PermissionError):
        return Misconfigured(
            f"this user may not listen on {where}", "set ACTIVITY_HTTP__PORT to one above 1023"
        )
    named = error.strerror if isinstance(error, (OSError, socket.gaierror)) and error.strerror else str(error)
    return Misconfigured(
        f"cannot listen on {where}: {named}", "set ACTIVITY_HTTP__HOST to an address of this machine"
    )
