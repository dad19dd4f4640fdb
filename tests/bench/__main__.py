"""`make bench`, or `python -m tests.bench --events 1000000 --runs 5 --case "client hot"`."""

import argparse
import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import uvloop

from ingest import logs, registry, stack
from ingest.kafka import thin_out
from tests.bench import cpu
from tests.bench.cases import CASES, Case, now
from tests.bench.ground import ROOT, Ground, embedded, prepare
from tests.bench.growth import Growth, growth
from tests.bench.limits import arrays_of, flushes, raw_poll, raw_write
from tests.bench.ours import work
from tests.bench.report import Measured, Pass, costs, growths, save, table

BROKER = "Tansu 0.6, embedded, in memory"


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.bench", description="Measure the worker beside its limits."
    )
    parser.add_argument(
        "--events", type=int, default=300_000, help="of the largest cases; others have a part of it"
    )
    parser.add_argument("--runs", type=int, default=3, help="passes of each case, limits and worker in turn")
    parser.add_argument(
        "--case", action="append", choices=[case.name for case in CASES], help="only this one"
    )
    parser.add_argument("--json", type=Path, help="where to write the figures; default: .bench/<date>.json")
    return parser.parse_args()  # fmt: skip


async def bench(given: argparse.Namespace) -> None:
    chosen = [case for case in CASES if not given.case or case.name in given.case]
    date = now().isoformat(timespec="seconds")
    projections = registry.load()
    print("processor time, nanoseconds an event", flush=True)
    cost = {case.name: cpu.cost(projections, case) for case in chosen}
    print(costs(cost), flush=True)
    measured: list[Measured] = []
    grown: list[Growth] = []
    with embedded() as running:
        postgres = ""
        for case in chosen:
            ground, one = await measure(running, case, given.events, given.runs)
            measured.append(one)
            postgres = await server(ground)
            if case.projection == "streaks":
                grown += await growth(ground)
    print(f"\nevents a second; ratio to each limit: median (least-greatest) of {given.runs} passes")
    print(table(measured))
    print(f"\n{growths(grown)}" if grown else "")
    path = given.json or ROOT / ".bench" / f"{date.replace(':', '')}.json"
    save(path, date, measured, cost, grown, BROKER, postgres)
    print(f"\nwritten to {path}")


async def measure(running: stack.Stack, case: Case, events: int, runs: int) -> tuple[Ground, Measured]:
    print(f"\n{case.name}: filling its topic", end="", flush=True)
    ground = await prepare(running, case, events)
    done = await flushes(ground)
    prepared = arrays_of(ground.projection, ground.registry.sql[case.projection], done)
    one = Measured(case.name, ground.events, sum(f.row_count for f in done), len(done))
    del done
    for number in range(runs):
        print(f", pass {number + 1}", end="", flush=True)
        await ground.empty()
        poll, first = await raw_poll(ground), await raw_write(ground, prepared, 1)
        await ground.empty()
        second = await raw_write(ground, prepared, 2)
        await ground.empty()
        took = await work(ground)
        one.passes.append(Pass(poll, first, second, took.wall, took.processor))
    print(f": {one.rate('ours'):,.0f} events/s", flush=True)
    return ground, one


async def server(ground: Ground) -> str:
    connection = await ground.connect()
    try:
        return str(await connection.fetchval("show server_version"))
    finally:
        await connection.close()


def main(_: Sequence[str] = ()) -> None:
    logs.configure("error")
    thin_out(level=logging.CRITICAL)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(bench(arguments()))


main()
