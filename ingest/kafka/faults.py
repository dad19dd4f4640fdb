"""What went wrong at the brokers, as one of our errors: the reaction is decided here and nowhere else."""

import asyncio
import ssl
from collections.abc import Awaitable
from typing import Any, TypeAlias, TypeVar

import aiokafka.errors as kafka

from ingest.errors import IngestError, LostOffsets, Misconfigured, Unavailable

T = TypeVar("T")
Kinds: TypeAlias = tuple[type[BaseException], ...]

KafkaError = kafka.KafkaError

LOST = "find out what was lost, then set ACTIVITY_KAFKA__OFFSET_RESET to earliest or latest to go on there"

FENCED: Kinds = (
    kafka.CommitFailedError,
    kafka.IllegalGenerationError,
    kafka.IllegalStateError,
    kafka.RebalanceInProgressError,
    kafka.UnknownMemberIdError,
)
"""A commit was refused because the partitions are no longer ours: normal during a rebalance."""

TOO_LARGE: Kinds = (kafka.MessageSizeTooLargeError, kafka.RecordListTooLargeError, kafka.RecordTooLargeError)
"""The broker takes no record, or batch of records, of this size."""

UNSUPPORTED: Kinds = (
    kafka.IncompatibleBrokerVersion,
    kafka.UnsupportedVersionError,
    kafka.InvalidConfigurationError,
    kafka.PolicyViolationError,
    kafka.InvalidRequestError,
    kafka.UnknownError,
)
"""How brokers say that they lack a capability; the embedded one says UNKNOWN."""

MENDS: tuple[tuple[Kinds, str], ...] = (
    (
        (kafka.AuthenticationFailedError, kafka.SaslAuthenticationFailed),
        "check sasl_username and sasl_password, or the oauth_ settings",
    ),
    (
        (
            kafka.AuthenticationMethodNotSupported,
            kafka.UnsupportedSaslMechanismError,
            kafka.IllegalSaslStateError,
            kafka.SecurityDisabled,
        ),
        "set security_protocol and sasl_mechanism to what the listener offers",
    ),
    (
        (ssl.SSLCertVerificationError,),
        "set ssl_cafile to the authority that signed the brokers' certificates",
    ),
    (
        (kafka.TopicAuthorizationFailedError,),
        "grant this user the operation on the topic: DESCRIBE, and READ, WRITE or CREATE",
    ),
    ((kafka.GroupAuthorizationFailedError,), "grant this user READ on the consumer group"),
    ((kafka.ClusterAuthorizationFailedError,), "grant this user the operation on the cluster"),
    (
        (kafka.UnsupportedCodecError,),
        "install the codecs: pip install 'aiokafka[lz4,snappy,zstd]'",
    ),
    (
        (kafka.RecordTooLargeError,),
        "raise ACTIVITY_KAFKA__MAX_PARTITION_FETCH_BYTES above the largest record",
    ),
    (
        (kafka.InvalidSessionTimeoutError,),
        "keep session_timeout within the brokers' group.min.session.timeout.ms and group.max.…",
    ),
    ((kafka.InconsistentGroupProtocolError,), "give every worker of the group the same assignor"),
    ((kafka.InvalidGroupIdError, kafka.InvalidTopicError), "use names that Kafka accepts"),
    ((kafka.InvalidReplicationFactorError,), "ask for no more replicas than there are brokers"),
    ((kafka.InvalidPartitionsError,), "ask for at least one partition"),
    (UNSUPPORTED[:2], "use brokers of version 2.1 or newer"),
)

CAUSES: tuple[tuple[Kinds, str], ...] = (
    ((kafka.RequestTimedOutError, kafka.KafkaTimeoutError, TimeoutError), "kafka_timeout"),
    ((kafka.CorruptRecordException,), "kafka_corrupt_record"),
    ((kafka.NotEnoughReplicasError, kafka.NotEnoughReplicasAfterAppendError), "kafka_replicas"),
)


def fault(error: BaseException, doing: str) -> IngestError:
    """`error`, raised by the client while `doing`, as the error that says how to react."""
    if isinstance(error, IngestError):
        return error
    message = f"{doing}: {error}" if str(error) else f"{doing}: {type(error).__name__}"
    if isinstance(error, kafka.OffsetOutOfRangeError):
        return LostOffsets(message, LOST)
    for kinds, mend in MENDS:
        if isinstance(error, kinds):
            return Misconfigured(message, mend)
    if isinstance(error, ssl.SSLError) and "WRONG_VERSION_NUMBER" in str(error):
        return Misconfigured(message, "this listener speaks no TLS: use another port or security_protocol")
    for kinds, cause in CAUSES:
        if isinstance(error, kinds):
            return Unavailable(message, cause)
    return Unavailable(message, "kafka")


def code(number: int, about: Any = "") -> BaseException:
    """The exception for an error code in a broker's response."""
    error: BaseException = kafka.for_code(number)(about)
    return error


def retriable(error: BaseException) -> bool:
    """Whether the same request may succeed a moment later."""
    return isinstance(error, KafkaError) and bool(error.retriable)


async def bounded(waiting: Awaitable[T], seconds: float, doing: str) -> T:
    """The result of `waiting`, or the error that says how to react; Unavailable after `seconds`.

    Only for calls of the client that may be cancelled: never for getmany.
    """
    try:
        async with asyncio.timeout(seconds):
            return await waiting
    except (KafkaError, OSError) as error:
        raise fault(error, doing) from error
