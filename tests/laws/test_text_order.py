"""Text that decides an order is compared by code point, in SQL as in Python, whatever the server's locale.

The embedded server knows no other order, so what the laws cannot show there is looked up here.
"""

import re
from collections.abc import Callable

import pytest

from tests.laws.harness import PROJECTIONS, Bench

pytestmark = pytest.mark.law

ORDER_BY = re.compile(r"order by ([^()]*?)(?=\n|\)| limit| for update|$)")
KEYS = """
select c.relname::text as relation, a.attname::text as attribute, l.collname::text as collation
from pg_index as i
join pg_class as c on c.oid = i.indrelid
join pg_attribute as a on a.attrelid = c.oid and a.attnum = any(i.indkey::smallint[])
join pg_collation as l on l.oid = a.attcollation
where i.indisprimary and c.relname = any($1::text[])
"""


@pytest.mark.parametrize("name", PROJECTIONS)
def test_text_in_a_key_is_collated_by_code_point(name: str, benches: Callable[[str], Bench]) -> None:
    bench = benches(name)
    keys = bench.run(bench.database.fetch(KEYS, list(bench.tables)))
    assert keys
    assert [key for key in keys if key["collation"] != "C"] == []


@pytest.mark.parametrize("name", PROJECTIONS)
def test_rows_are_locked_in_the_order_of_code_points(name: str, benches: Callable[[str], Bench]) -> None:
    bench = benches(name)
    texts = {key["attribute"] for key in bench.run(bench.database.fetch(KEYS, list(bench.tables)))}
    statements = [write.text for write in bench.sql.writes] + list(bench.sql.sweeps.values())
    ordered = [term for text in statements for found in ORDER_BY.findall(text) for term in found.split(",")]
    assert ordered
    for term in ordered:
        column = term.split()[0].rpartition(".")[2]
        assert column not in texts or 'collate "C"' in term
