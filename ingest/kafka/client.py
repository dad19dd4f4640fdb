"""How the brokers are reached: settings to client arguments, and why they were not reached."""

import asyncio
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaConnectionError
from aiokafka.protocol.metadata import MetadataRequest
from pydantic import SecretStr

from ingest.errors import IngestError, Misconfigured, Unavailable
from ingest.kafka.faults import KafkaError, fault
from ingest.kafka.oauth import ClientCredentials
from ingest.settings import KafkaSettings

SECOND_LOOK = 3.0  # seconds


@dataclass(frozen=True)
class Connection:
    """A cluster and who we are to it; shared by every client of this process.

    `servers` replaces the settings' bootstrap_servers, for the embedded broker.
    """

    settings: KafkaSettings
    servers: str | None = None

    @property
    def bootstrap(self) -> str:
        """host:port, several separated by commas. Raises Misconfigured where none was named."""
        servers = self.servers or self.settings.bootstrap_servers
        if servers is None:
            raise Misconfigured("no Kafka cluster is named", "set ACTIVITY_KAFKA__BOOTSTRAP_SERVERS")
        return servers

    @cached_property
    def arguments(self) -> Mapping[str, Any]:
        """Keyword arguments that every aiokafka client takes. Raises Misconfigured."""
        settings = self.settings
        return {
            "bootstrap_servers": self.bootstrap.split(","),
            "client_id": settings.client_id,
            "request_timeout_ms": round(settings.request_timeout * 1000),
            **security(settings),
        }

    async def why_unreachable(self, known: IngestError | None = None) -> IngestError:
        """Ask the named brokers once more, because the client keeps the reason to itself.

        `known` is told where nothing better is found out.
        """
        found: IngestError = known or Unavailable("Kafka is not ready", "kafka")
        for host, port, _ in collect_hosts(self.arguments["bootstrap_servers"]):
            refusal = await self._ask(host, port)
            if refusal is None:
                break
            if isinstance(refusal, Misconfigured):
                return refusal
            found = refusal
        return found

    async def _ask(self, host: str, port: int) -> IngestError | None:
        """What this broker refuses, if anything."""
        arguments = {name: self.arguments[name] for name in self.arguments if name != "bootstrap_servers"}
        doing = f"connecting to Kafka at {host}:{port}"
        try:
            async with asyncio.timeout(SECOND_LOOK):
                connection = await create_conn(host, port, **arguments)
                try:
                    await connection.send(MetadataRequest([]))
                finally:
                    connection.close()
        except (OSError, KafkaError, AssertionError, ValueError) as error:
            refusal = fault(error, doing)
            if isinstance(error, ConnectionResetError | KafkaConnectionError | TimeoutError):
                protocol = self.settings.security_protocol
                return Unavailable(f"{refusal.message} (does this listener speak {protocol}?)", "kafka")
            return refusal
        return None


def security(settings: KafkaSettings) -> dict[str, Any]:
    """The part of the arguments that encrypts and authenticates. Raises Misconfigured."""
    arguments: dict[str, Any] = {"security_protocol": settings.security_protocol}
    if settings.security_protocol.endswith("SSL"):
        arguments["ssl_context"] = ssl_context(settings)
    if settings.security_protocol.startswith("SASL"):
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments |= _oauth(settings) if settings.sasl_mechanism == "OAUTHBEARER" else _password(settings)
    return arguments


def ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    """TLS with verified host names. Raises Misconfigured where a file cannot be used."""
    files = (settings.ssl_cafile, settings.ssl_certfile, settings.ssl_keyfile)
    try:
        context = ssl.create_default_context(cafile=settings.ssl_cafile)
        if settings.ssl_certfile is not None:
            # Given as a function, because OpenSSL would otherwise ask for a missing password at the terminal.
            context.load_cert_chain(
                settings.ssl_certfile, settings.ssl_keyfile, lambda: _secret(settings.ssl_keyfile_password)
            )
    except (OSError, ValueError) as error:
        named = ", ".join(str(path) for path in files if path is not None)
        raise Misconfigured(
            f"TLS towards Kafka: {named}: {error}", "give PEM files that fit together"
        ) from error
    return context


def _password(settings: KafkaSettings) -> dict[str, Any]:
    return {
        "sasl_plain_username": settings.sasl_username,
        "sasl_plain_password": _secret(settings.sasl_password),
    }


def _oauth(settings: KafkaSettings) -> dict[str, Any]:
    provider = ClientCredentials(
        settings.oauth_token_url or "",
        settings.oauth_client_id or "",
        _secret(settings.oauth_client_secret),
        settings.oauth_scope,
        timeout=min(10.0, settings.request_timeout),
    )
    return {"sasl_oauth_token_provider": provider}


def _secret(value: SecretStr | None) -> str:
    return value.get_secret_value() if value is not None else ""
