"""How workers batch and write, what an event may be, what is served and logged."""

from datetime import UTC, datetime
from typing import Annotated, Literal, Self

from pydantic import AwareDatetime, Field, model_validator

from ingest.settings.section import Lower, Section


class HttpSettings(Section):
    """Where metrics and health are served."""

    enabled: bool = Field(default=True, description="serve /metrics, /livez, /readyz and /health/activity")
    host: str = Field(
        default="0.0.0.0", min_length=1, description="address to listen on; 0.0.0.0: all of IPv4, ::: of IPv6"
    )
    port: int = Field(default=9464, ge=0, le=65535, description="port; 0: a free one, which the log names")


class LogSettings(Section):
    """What is logged to standard error."""

    level: Annotated[Literal["debug", "info", "warning", "error"], Lower] = Field(
        default="info", description="least severity; debug alone names users and clients"
    )
    format: Annotated[Literal["auto", "json", "console"], Lower] = Field(
        default="auto", description="form of the lines; auto: console on a terminal, else json"
    )


class WorkerSettings(Section):
    """How events are batched and written; each may be given for one projection alone."""

    max_rows: int = Field(
        default=5000, ge=1, le=1_000_000, description="distinct rows at which a batch is written"
    )
    max_records: int = Field(
        default=50_000, ge=1, le=10_000_000, description="records at which a batch is written"
    )
    max_bytes: int = Field(
        default=16_777_216,
        ge=1024,
        le=1_073_741_824,
        description="bytes of keys, values and headers at which it is written",
    )
    flush_interval: float = Field(
        default=1, gt=0, le=3600, description="seconds after its first record that it is written"
    )
    flush_jitter: float = Field(
        default=0.1, ge=0, le=1, description="part of flush_interval varied at random either way"
    )
    max_in_flight: int = Field(default=2, ge=1, le=8, description="batches being written at once")
    drain_timeout: float = Field(
        default=25, gt=0, le=3600, description="seconds to write and commit what is held when stopping"
    )
    backoff_base: float = Field(
        default=0.1, gt=0, le=60, description="seconds before the first retry; each next waits longer"
    )
    backoff_cap: float = Field(default=30, gt=0, le=3600, description="seconds between retries at most")
    sweep_interval: float = Field(
        default=5, gt=0, le=3600, description="seconds between looks for rows that time out"
    )
    gauge_interval: float = Field(
        default=15, gt=0, le=3600, description="seconds between counts of the tables for gauges"
    )
    idle_refresh: float = Field(
        default=5, gt=0, le=3600, description="seconds between notes of being read to the end"
    )

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if self.backoff_cap < self.backoff_base:
            raise ValueError(
                f"backoff_cap {self.backoff_cap:g} is less than backoff_base {self.backoff_base:g}"
            )
        return self


class ContractSettings(Section):
    """What an event may be; whatever is outside goes to the dead letters."""

    max_event_bytes: int = Field(
        default=65_536, ge=256, le=16_777_216, description="bytes of an event at most"
    )
    max_clock_skew: float = Field(
        default=300, ge=0, le=86400, description="seconds an event may be ahead of the broker's clock"
    )
    earliest_time: AwareDatetime = Field(
        default=datetime(2000, 1, 1, tzinfo=UTC),
        ge=datetime(1900, 1, 1, tzinfo=UTC),
        description="event times before it are rejected",
    )
