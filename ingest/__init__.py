"""The engine: activity events from Kafka, folded into Postgres tables. The files, as the data meets them:

kafka        reads partitions, commits offsets, publishes dead letters     (record: what is read)
contract     a record's bytes to an event or a Reject      (cloudevents, jsontext, events, decoding, explain)
projection   what a consumers/*.py declares: events, tables, folds, a reference   (registry finds them)
batch        decode, fold, and when a flush is due                         (splitting: smaller ones)
worker       poll, add, flush, commit; the ports it needs                  (offsets, committer, writer)
retry        which failure asks for which reaction                         (errors: one class each)
postgres     writes a flush with its progress in one transaction           (queries reads sql/*.sql)
http         metrics and health                                            (metrics, logs, settings)
service      builds, supervises and stops all of it; cli and its commands stand on top
"""
