"""From settings to a connection: what is refused, what is waited for, what is passed on."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import quote, urlsplit

import pytest

from ingest.errors import Misconfigured, Unavailable
from ingest.postgres import Database
from ingest.postgres.access import access
from ingest.postgres.translate import while_connecting
from ingest.settings import PostgresSettings
from tests.integration.postgres_tools import ENGINE, opened, sql

pytestmark = pytest.mark.integration


@pytest.mark.parametrize(
    "query", ["search_path=app", "options=-csearch_path%3Dapp", "options=-c%20search_path%3Dapp"]
)
@pytest.mark.parametrize("pgbouncer", [False, True])
async def test_the_search_path_of_the_dsn_is_followed(postgres_dsn: str, query: str, pgbouncer: bool) -> None:
    await sql(postgres_dsn, "create schema app; create table app.t as select 7 as x")
    async with opened(f"{postgres_dsn.partition('?')[0]}?{query}", pgbouncer=pgbouncer) as database:
        assert await database.value("select x from t") == 7


@asynccontextmanager
async def changed(dsn: str, **parts: Any) -> AsyncIterator[Database]:
    url = urlsplit(dsn)
    name, _, place = url.netloc.rpartition("@")
    user, _, password = name.partition(":")
    given = {"user": user, "password": password, "path": url.path, "place": place, "query": url.query} | parts
    netloc = f"{given['user']}:{given['password']}@{given['place']}"
    async with opened(
        url._replace(netloc=netloc, path=given["path"], query=given["query"]).geturl()
    ) as database:
        yield database


@pytest.mark.parametrize(
    ("parts", "mend"),
    [
        ({"password": "wrong"}, "password"),
        ({"user": "nobody_here"}, "user"),
        ({"path": "/nowhere"}, "create it"),
        ({"query": "sslmode=nonsense"}, "ACTIVITY_POSTGRES"),
        ({"query": "no_such_setting=1"}, "ACTIVITY_POSTGRES"),
    ],
)
async def test_what_an_operator_got_wrong_is_not_retried(
    postgres_dsn: str, parts: dict[str, str], mend: str
) -> None:
    async with changed(postgres_dsn, **parts) as database:
        with pytest.raises(Misconfigured) as caught:
            await database.value("select 1")
        assert mend in caught.value.mend
        assert str(urlsplit(postgres_dsn).password) not in caught.value.message


@pytest.mark.parametrize(
    "query", ["sslmode", "options=%22", "sslrootcert=/nowhere.pem", "sslcert=/nowhere.pem"]
)
def test_a_dsn_that_cannot_be_right_is_refused_at_once(query: str) -> None:
    with pytest.raises(Misconfigured):
        access(PostgresSettings.model_validate({"dsn": f"postgresql://host/base?{query}"}))


async def test_a_server_without_tls_is_refused_where_tls_is_required(postgres_dsn: str) -> None:
    if await sql(postgres_dsn, "select current_setting('ssl')") != [("off",)]:
        pytest.skip("this server has TLS")
    async with changed(postgres_dsn, query="sslmode=require") as database:
        with pytest.raises(Misconfigured) as caught:
            await database.value("select 1")
    assert "sslmode" in caught.value.mend


def test_a_certificate_that_is_not_trusted_is_not_retried() -> None:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed: self-signed certificate")
    assert isinstance(while_connecting(error, "postgresql://host"), Misconfigured)
    assert isinstance(while_connecting(ssl.SSLError(1, "unexpected eof"), "postgresql://host"), Unavailable)


@pytest.mark.parametrize("place", ["127.0.0.1:1", "localhost:1", "no-such-host.invalid:5432"])
async def test_a_server_that_cannot_be_reached_is_waited_for(postgres_dsn: str, place: str) -> None:
    async with changed(postgres_dsn, place=place) as database:
        with pytest.raises(Unavailable) as caught:
            await database.value("select 1")
        assert caught.value.cause == "connection"


async def test_settings_that_only_libpq_knows_do_no_harm(postgres_dsn: str) -> None:
    query = (
        "connect_timeout=3&keepalives_idle=5&channel_binding=prefer&gssencmode=disable&application_name=mine"
    )
    async with changed(postgres_dsn, query=f"sslmode=disable&{query}") as database:
        assert await database.value("show application_name") == "mine"


async def test_host_and_user_may_be_given_apart(postgres_dsn: str) -> None:
    url = urlsplit(postgres_dsn)
    given = {"host": url.hostname, "port": url.port, "database": url.path[1:], "user": url.username,
             "password": url.password, "sslmode": "disable"}  # fmt: skip
    database = Database(PostgresSettings.model_validate(given), ENGINE)
    assert await database.value("select current_database()") == url.path[1:]
    assert str(url.password) not in database.address
    await database.close()


async def test_a_password_with_every_awkward_character_works(postgres_dsn: str) -> None:
    password = "p@ss:/?#[]%+ &='\"ü"
    role = f"r{abs(hash(postgres_dsn))}"
    quoted = password.replace("'", "''")
    await sql(postgres_dsn, f"create role {role} login password '{quoted}'")
    try:
        async with changed(postgres_dsn, user=role, password=quote(password, safe="")) as database:
            assert await database.value("select current_user::text") == role
    finally:
        await sql(postgres_dsn, f"drop role {role}")
