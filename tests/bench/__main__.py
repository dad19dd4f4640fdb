import logging
import sys
from time import perf_counter

import uvloop

from ingest import logs
from ingest.kafka import thin_out
from tests.bench import cases, ground, limits, ours


async def one(running, case, events, runs):
    t = perf_counter()
    g = await ground.prepare(running, case, events)
    print(case.name, g.events, "filled in", round(perf_counter() - t, 1), flush=True)
    t = perf_counter()
    fl = await limits.flushes(g)
    arr = limits.arrays(g, fl)
    rows = sum(f.row_count for f in fl)
    print("  flushes", len(fl), "rows", rows, round(perf_counter() - t, 1), flush=True)
    for _ in range(runs):
        p = await limits.raw_poll(g)
        await g.empty()
        w1 = await limits.raw_write(g, arr, 1)
        await g.empty()
        w2 = await limits.raw_write(g, arr, 2)
        await g.empty()
        o = await ours.work(g)
        print(
            f"  poll {p:,.0f}/s  pg1 {rows / w1:,.0f} rows/s {g.events / w1:,.0f} ev/s pg2 {g.events / w2:,.0f} ev/s ours {g.events / o.wall:,.0f} ev/s cpu {o.cpu / o.wall:.2f}  ratios: poll {g.events / o.wall / p:.2f} pg1 {w1 / o.wall:.2f} pg2 {w2 / o.wall:.2f}  flushes {o.flushes}",
            flush=True,
        )


async def main():
    logs.configure("warning")
    thin_out(level=logging.CRITICAL)
    events = int(sys.argv[1])
    runs = int(sys.argv[2])
    names = sys.argv[3:]
    with ground.embedded() as running:
        for c in cases.CASES:
            if not names or c.name in names:
                await one(running, c, events, runs)


uvloop.run(main())
