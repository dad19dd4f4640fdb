"""How near the worker comes to what Kafka and Postgres give: `make bench`.

    cases.py      what is measured: events, keys, how many
    ground.py     the embedded stack, settings, topics filled once, tables emptied
    limits.py     the limits: polling alone, and writing the same rows from arrays made beforehand
    ours.py       the worker, wired as `ingest.member` wires it, from its assignment to its drain
    cpu.py        decode + fold against bare msgspec, without Kafka or Postgres
    growth.py     what must not grow: streaks of many days, a day of many items
    report.py     the table, and the JSON that is kept in results/

Figures are to be read as ratios within one run: limits and worker take turns, so that whatever else
the machine does falls on all of them.
"""
