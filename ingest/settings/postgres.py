"""How to reach the database."""

from typing import Annotated, ClassVar, Literal, Self

from pydantic import AfterValidator, Field, FilePath, SecretStr, model_validator

from ingest.settings.section import Lower, Section
from ingest.settings.variables import without_password


def _dsn(value: SecretStr) -> SecretStr:
    if not value.get_secret_value().startswith(("postgresql://", "postgres://")):
        raise ValueError("must begin with postgresql:// or postgres://")
    return value


Dsn = Annotated[SecretStr, AfterValidator(_dsn)]
"""A connection string; secret, because it may carry a password."""


class PostgresSettings(Section):
    """Which database: a DSN, or host, port and database. User and password may stand beside either."""

    TUNING: ClassVar[tuple[str, ...]] = (
        "pgbouncer",
        "connect_timeout",
        "command_timeout",
        "lock_timeout",
        "pool_size",
    )

    dsn: Dsn | None = Field(default=None, description="postgresql://user:password@host:port/database")
    host: str = Field(
        default="localhost", min_length=1, description="host, or directory of a Unix socket (also PG_HOST)"
    )
    port: int = Field(default=5432, ge=1, le=65535, description="port (also PG_PORT)")
    database: str | None = Field(
        default=None, description="database; none: named as the user (also PG_DATABASE)"
    )
    user: str | None = Field(default=None, description="user; none: as the operating system's (also PG_USER)")
    password: SecretStr | None = Field(default=None, description="password (also PG_PASSWORD)")
    sslmode: Annotated[Literal["disable", "prefer", "require", "verify-ca", "verify-full"], Lower] | None = (
        Field(
            default=None,
            description="TLS; none: as the DSN says, else prefer. verify-full alone stops an impostor",
        )
    )
    sslrootcert: FilePath | None = Field(
        default=None, description="PEM of the authorities to trust; none: the system's"
    )
    sslcert: FilePath | None = Field(default=None, description="PEM of the client's certificate")
    sslkey: FilePath | None = Field(default=None, description="PEM of the client's private key")
    pgbouncer: bool = Field(
        default=False, description="behind pgbouncer in transaction mode: no prepared statements are kept"
    )
    migrate_dsn: Dsn | None = Field(
        default=None, description="DSN for migrations, past a pooler; none: as the workers'"
    )
    connect_timeout: float = Field(default=5, gt=0, le=300, description="seconds to open a connection")
    command_timeout: float = Field(default=30, gt=0, le=3600, description="seconds a statement may take")
    lock_timeout: float = Field(
        default=10, gt=0, le=3600, description="seconds a statement may wait for a lock"
    )
    pool_size: int = Field(
        default=3, ge=1, le=100, description="connections at most for each projection a worker runs"
    )

    @property
    def configured(self) -> bool:
        """Whether a database was named; where none was, the embedded one serves."""
        return bool(self.model_fields_set.difference(self.TUNING))

    @property
    def address(self) -> str:
        """Which database this is, for logs and screens: without any password."""
        if self.dsn is not None:
            return without_password(self.dsn.get_secret_value())
        user = f"{self.user}@" if self.user else ""
        return f"postgresql://{user}{self.host}:{self.port}/{self.database or ''}"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.dsn is not None and (given := sorted(self.model_fields_set & {"host", "port", "database"})):
            raise ValueError(f"dsn and {given[0]} are both set: give one or the other")
        if self.sslkey is not None and self.sslcert is None:
            raise ValueError("sslkey is set, but sslcert is not")
        return self
