"""How to reach the brokers, and how to read from them."""

import json
import re
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, FilePath, SecretStr, model_validator

from ingest.settings.section import Lower, Section, Upper

SERVER = re.compile(r"([\w.-]+|\[[0-9A-Fa-f:.]+\]):(?P<port>\d{1,5})", re.ASCII)


def _mapping(value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if value.startswith("{"):
        return json.loads(value)
    pairs = [pair.partition("=") for pair in value.split(",") if pair.strip()]
    return {name.strip(): actual.strip() for name, _, actual in pairs}


def _named(value: dict[str, str]) -> dict[str, str]:
    if not all(name and actual for name, actual in value.items()):
        raise ValueError("must be a=b,c=d or a JSON object")
    return value


def _servers(value: str) -> str:
    servers = [server.strip() for server in value.split(",") if server.strip()]
    for server in servers:
        named = SERVER.fullmatch(server)
        if named is None or not 0 < int(named["port"]) < 65536:
            raise ValueError("must be host:port, several separated by commas")
    return ",".join(servers)


class KafkaSettings(Section):
    """How to reach the brokers, and how to read from them."""

    bootstrap_servers: Annotated[str, AfterValidator(_servers)] | None = Field(
        default=None, description="host:port of one broker or more, separated by commas"
    )
    security_protocol: Annotated[Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"], Upper] = Field(
        default="PLAINTEXT", description="encryption and authentication towards the brokers"
    )
    ssl_cafile: FilePath | None = Field(
        default=None, description="PEM of the authorities to trust; none: the system's"
    )
    ssl_certfile: FilePath | None = Field(default=None, description="PEM of the client's certificate")
    ssl_keyfile: FilePath | None = Field(default=None, description="PEM of the client's private key")
    ssl_keyfile_password: SecretStr | None = Field(default=None, description="password of the private key")
    sasl_mechanism: (
        Annotated[Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512", "OAUTHBEARER"], Upper] | None
    ) = Field(default=None, description="how to authenticate under SASL")
    sasl_username: str | None = Field(default=None, description="user for PLAIN and SCRAM")
    sasl_password: SecretStr | None = Field(default=None, description="password for PLAIN and SCRAM")
    oauth_token_url: str | None = Field(
        default=None, description="token endpoint for OAUTHBEARER (client credentials)"
    )
    oauth_client_id: str | None = Field(default=None, description="client id for OAUTHBEARER")
    oauth_client_secret: SecretStr | None = Field(default=None, description="client secret for OAUTHBEARER")
    oauth_scope: str | None = Field(default=None, description="scope asked of the token endpoint")
    client_id: str = Field(
        default="activity-ingest", min_length=1, description="name shown in the brokers' logs and quotas"
    )
    group_instance_id: str | None = Field(
        default=None,
        description="static membership: a name of this process that survives its restarts, such as the pod's",
    )
    assignor: Annotated[Literal["sticky", "roundrobin", "range"], Lower] = Field(
        default="sticky",
        description="how a group divides its partitions; the same in every worker of a group",
    )
    offset_reset: Annotated[Literal["none", "earliest", "latest"], Lower] = Field(
        default="none",
        description="where to go on when the broker no longer has the next offset; none: stop and say so",
    )
    session_timeout: float = Field(
        default=30, ge=1, le=1800, description="seconds without a heartbeat until the group evicts us"
    )
    rebalance_timeout: float = Field(
        default=60, ge=2, le=3600, description="seconds a rebalance waits for each member"
    )
    max_poll_interval: float = Field(
        default=300, ge=5, le=86400, description="seconds between two polls until we leave"
    )
    request_timeout: float = Field(
        default=40, ge=1, le=600, description="seconds until a request to a broker has failed"
    )
    fetch_min_bytes: int = Field(
        default=100_000,
        ge=1,
        le=52_428_800,
        description="bytes; a broker answers a fetch once it has this much",
    )
    fetch_max_wait: float = Field(
        default=0.25, ge=0.001, le=30, description="seconds a broker waits for fetch_min_bytes"
    )
    max_partition_fetch_bytes: int = Field(
        default=1_048_576, ge=1024, le=268_435_456, description="bytes fetched from a partition at a time"
    )
    dead_letter_topic: str = Field(
        default="activity.dead-letters", min_length=1, description="topic for rejected records"
    )
    topics: Annotated[dict[str, str], BeforeValidator(_mapping), AfterValidator(_named)] = Field(
        default={},
        description="topics of other names: activity.user=prod.user,activity.live=prod.live",
    )

    @property
    def configured(self) -> bool:
        """Whether a cluster was named; where none was, the embedded one serves."""
        return self.bootstrap_servers is not None

    def topic(self, logical: str) -> str:
        """The actual name of the topic that the contract calls `logical`."""
        return self.topics.get(logical, logical)

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        protocol, mechanism = self.security_protocol, self.sasl_mechanism
        security = self.given("security_", "ssl_", "sasl_", "oauth_")
        if security and not self.configured:
            raise ValueError(f"{security[0]} is set, but bootstrap_servers is not")
        if not protocol.endswith("SSL") and (given := self.given("ssl_")):
            raise ValueError(
                f"{given[0]} is set, but security_protocol {protocol} uses no TLS: SSL or SASL_SSL does"
            )
        if not protocol.startswith("SASL"):
            if given := self.given("sasl_", "oauth_"):
                raise ValueError(f"{given[0]} is set, but security_protocol is {protocol}: SASL_SSL uses it")
            return self
        if mechanism is None:
            raise ValueError(f"security_protocol {protocol} needs sasl_mechanism")
        oauth = ("oauth_token_url", "oauth_client_id", "oauth_client_secret")
        needed = oauth if mechanism == "OAUTHBEARER" else ("sasl_username", "sasl_password")
        if missing := [field for field in needed if getattr(self, field) is None]:
            raise ValueError(f"sasl_mechanism {mechanism} needs {' and '.join(missing)}")
        return self
