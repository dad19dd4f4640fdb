"""sql text -> sections."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.errors import Misconfigured
from ingest.queries import canonical, checksum, parameters, parse, statements

WHOLE = """-- What this file is about; prose may stand here.

-- migration 1: the first table
-- a remark
create table if not exists seen (id text primary key);
create view latest as select ';' as mark from seen;

-- migration 2 min_worker 1 no-transaction: an index
create index concurrently on seen (id);

-- lock seen (seen)
select from seen where id = any($1) for update;

-- write seen (seen, extra)
insert into seen select * from unnest($1::text[], $2::text[]);

-- sweep seen
select 1::bigint;

-- gauge seen
select '', count(*)::float from seen;

-- verify seen
select id from seen;

-- show user
select $1;

-- inactive users
select $1, $2;

-- query by_id
select $1;
"""


def refused(text: str) -> Misconfigured:
    with pytest.raises(Misconfigured) as caught:
        parse("shop", text)
    assert caught.value.mend
    return caught.value


def test_every_kind_of_section_is_found_under_its_name() -> None:
    file = parse("shop", WHOLE)
    assert [(w.name, w.tables, w.counted, w.parameters) for w in file.writes] == [
        ("seen", ("seen",), False, 1),
        ("seen", ("seen", "extra"), True, 2),
    ]
    assert file.sweeps.keys() == file.gauges.keys() == file.verifies.keys() == {"seen"}
    assert (list(file.shows), list(file.inactives), list(file.queries)) == (["user"], ["users"], ["by_id"])
    assert file.queries["by_id"] == "select $1;"


def test_migrations_keep_order_title_and_what_they_demand() -> None:
    first, second = parse("shop", WHOLE).migrations
    assert (first.version, first.min_worker, first.transactional, first.title) == (
        1,
        1,
        True,
        "the first table",
    )
    assert (second.version, second.min_worker, second.transactional, second.title) == (
        2,
        1,
        False,
        "an index",
    )
    assert first.creates == ("seen", "latest")
    assert len(first.statements) == 2
    assert parse("shop", WHOLE).version == 2


def test_a_file_without_migrations_has_version_0() -> None:
    assert parse("shop", "-- query one\nselect 1").version == 0


def test_line_ends_of_windows_change_nothing() -> None:
    assert parse("shop", WHOLE.replace("\n", "\r\n")) == parse("shop", WHOLE)


@pytest.mark.parametrize(
    ("text", "line", "said"),
    [
        ("-- verfy seen\nselect 1", 1, "reads like a section"),
        ("-- view seen (seen)\nselect 1", 1, "reads like a section"),
        ("-- query one\nselect 1\n-- write the rows, sorted\n", 3, "reads like a section"),
        ("-- query the rows\nselect 1", 1, "'rows' is unexpected"),
        ("-- query one\nselect 1\n-- query one\nselect 2", 3, "is on line 1 already"),
        ("-- migration 2 min_worker 1: late\nselect 1", 1, "stands where 1 is due"),
        (
            "-- migration 1: a\nselect 1;\n-- migration 3 min_worker 1: c\nselect 1",
            3,
            "stands where 2 is due",
        ),
        ("-- migration 1: a\nselect 1;\n-- migration 2: b\nselect 1", 3, "which workers"),
        ("-- migration 1 min_worker 2: a\nselect 1", 1, "not between 1 and 1"),
        ("-- migration 1 min_worker x: a\nselect 1", 1, "which workers"),
        ("-- write seen\nselect 1", 1, "names no table"),
        ("-- write seen ()\nselect 1", 1, "names no table"),
        ("-- gauge seen (seen)\nselect 1", 1, "takes no tables"),
        ("-- query empty\n-- nothing here\n", 1, "holds 0 statements"),
        ("-- query two\nselect 1; select 2;", 1, "holds 2 statements"),
        ("select 1;\n-- query one\nselect 1", 1, "before the first section"),
    ],
)
def test_a_mistake_is_named_with_file_and_line(text: str, line: int, said: str) -> None:
    message = refused(text).message
    assert message.startswith(f"sql/shop.sql:{line}: ")
    assert said in message


def test_prose_is_no_section() -> None:
    prose = (
        "-- Sorted keys",
        "-- every writer sorts them (in key order)",
        "-- Sorted (by key)",
        "-- sorted keys",
    )
    assert parse("shop", "\n".join(("-- query one", *prose, "select 1"))).queries.keys() == {"one"}


def test_a_checksum_ignores_layout_and_comments_and_nothing_else() -> None:
    one = checksum("create table a (x int, -- why\n    y text default 'a  b');\n")
    assert one == checksum("create table a(x int,y text default 'a  b')")
    assert one == checksum("/* new /* nested */ */ create table a (x int,\r\n\ty text default 'a  b');;")
    assert one != checksum("create table a (x int, y text default 'a b')")
    assert one != checksum("create table a (x int, y text)")


def test_a_comment_inside_a_function_body_belongs_to_the_function() -> None:
    assert checksum("do $$ begin -- one\n end $$") != checksum("do $$ begin -- two\n end $$")


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("select 1; select 2", 2),
        ("select ';'; -- ; \n", 1),
        ("do $a$ select ';'; $b$;$b$ $a$; select 1", 2),
        ('select ";" /* ; */', 1),
        (r"select e'\';'; select 2", 2),
        ("select 'it''s;'", 1),
        ("", 0),
    ],
)
def test_statements_end_at_semicolons_outside_quotes_and_comments(text: str, count: int) -> None:
    assert len(list(statements(text))) == count


def test_parameters_are_counted_outside_quotes_only() -> None:
    assert parameters("select $1, $12, '$99', $$ $98 $$ -- $97") == 12
    assert parameters("select 1") == 0


@given(st.text(alphabet=st.sampled_from("ab'\"$-/*;\n \\e1(),"), max_size=60))
def test_any_text_is_taken_apart_without_an_error(text: str) -> None:
    canonical(text)
    list(statements(text))
    assert parameters(text) >= 0
