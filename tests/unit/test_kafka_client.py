"""Settings to client arguments, and what is relied on inside aiokafka."""

import asyncio
import ssl
from pathlib import Path
from typing import Any

import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.abc import AbstractTokenProvider, ConsumerRebalanceListener
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import AuthenticationFailedError

from ingest.errors import Misconfigured
from ingest.kafka import Connection
from ingest.kafka.client import security
from ingest.kafka.consumer import member
from ingest.kafka.internals import assignor, at_once, forget_failed_fetch
from ingest.kafka.membership import Membership
from ingest.kafka.oauth import ClientCredentials, parsed
from ingest.settings import KafkaSettings
from tests.kafka import reach

NOWHERE = "127.0.0.1:1"


def settings(**given: Any) -> KafkaSettings:
    return KafkaSettings.model_validate({"bootstrap_servers": NOWHERE, **given})


def test_plain_text_needs_nothing() -> None:
    assert security(settings()) == {"security_protocol": "PLAINTEXT"}


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
def test_passwords_reach_the_client_and_nothing_else(mechanism: str) -> None:
    given = settings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism=mechanism,
        sasl_username="u",
        sasl_password="p4ss",
    )
    assert security(given) == {
        "security_protocol": "SASL_PLAINTEXT",
        "sasl_mechanism": mechanism,
        "sasl_plain_username": "u",
        "sasl_plain_password": "p4ss",
    }
    assert "p4ss" not in repr(Connection(given))


def test_tls_verifies_host_names_and_certificates() -> None:
    context = security(settings(security_protocol="SSL"))["ssl_context"]
    assert context.check_hostname
    assert context.verify_mode is ssl.CERT_REQUIRED


def test_a_file_that_is_no_certificate_is_named(tmp_path: Path) -> None:
    wrong = tmp_path / "ca.pem"
    wrong.write_text("no certificate")
    with pytest.raises(Misconfigured, match=r"ca\.pem"):
        security(settings(security_protocol="SSL", ssl_cafile=wrong))


def test_no_cluster_is_misconfigured() -> None:
    with pytest.raises(Misconfigured, match="no Kafka cluster is named"):
        _ = Connection(KafkaSettings.model_validate({})).arguments


def test_oauth_settings_reach_the_token_provider_and_stay_out_of_its_text() -> None:
    given = settings(
        security_protocol="SASL_PLAINTEXT",
        sasl_mechanism="OAUTHBEARER",
        oauth_token_url="https://example.test/token",
        oauth_client_id="me",
        oauth_client_secret="p4ss",
        oauth_scope="kafka",
    )
    provider = security(given)["sasl_oauth_token_provider"]
    assert isinstance(provider, AbstractTokenProvider)
    assert provider == ClientCredentials(
        "https://example.test/token", "me", "p4ss", "kafka", 10.0, provider.clock, _lock=provider._lock
    )
    assert "p4ss" not in repr(provider)


@pytest.mark.parametrize(
    "answer", [b"", b"[]", b"{}", b'{"access_token": 5}', b'{"access_token":"a","expires_in":[]}']
)
def test_an_answer_without_a_token_is_refused(answer: bytes) -> None:
    with pytest.raises(AuthenticationFailedError):
        parsed(answer, 0)


async def test_a_join_may_take_as_long_as_a_rebalance() -> None:
    consumer = member(reach(NOWHERE, request_timeout=40, rebalance_timeout=60), "g")
    assert consumer._client._request_timeout_ms == 65_000
    await consumer.close(1)


async def test_members_of_several_groups_share_no_sticky_memory() -> None:
    one, two = assignor("sticky"), assignor("sticky")
    one.on_assignment(ConsumerProtocolMemberAssignment(0, [("activity.user", [1])], b""))
    assert two.member_assignment is None
    assert two.metadata(["activity.client"]).user_data == b""
    assert one.name == two.name == "sticky"


async def test_a_position_that_was_sought_is_told_without_suspending() -> None:
    consumer = member(reach(NOWHERE), "g")
    client, here = consumer._client, TopicPartition("t", 0)
    client._subscription.assign_from_user([here])
    client._subscription.seek(here, 7)
    assert at_once(client.position(here)) == 7
    await consumer.close(1)


def test_what_suspends_is_not_taken_for_an_answer() -> None:
    with pytest.raises(RuntimeError, match="suspends"):
        at_once(asyncio.sleep(0))


async def test_a_fetch_that_failed_is_no_longer_counted_as_running() -> None:
    client = AIOKafkaConsumer(bootstrap_servers=NOWHERE)
    subscription = client._subscription
    with pytest.raises(ValueError, match="x"), subscription.fetch_context():
        raise ValueError("x")
    # This is what would make the client believe for ever that somebody polls.
    assert subscription._fetch_count == 1
    forget_failed_fetch(client)
    assert subscription._fetch_count == 0
    with subscription.fetch_context():
        pass
    assert subscription._fetch_count == 0
    await client.stop()


def test_a_membership_may_listen_to_rebalances() -> None:
    assert issubclass(Membership, ConsumerRebalanceListener)
