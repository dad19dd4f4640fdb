"""What a worker tells Prometheus.

table.py       every metric: name, type, help, labels, buckets
registry.py    the registry of a process, the series of a projection, the scrape
"""

from ingest.metrics.registry import Metrics, ProjectionMetrics, Series
from ingest.metrics.table import METRICS, PREFIX, MetricDef, reference_table

__all__ = ["METRICS", "PREFIX", "MetricDef", "Metrics", "ProjectionMetrics", "Series", "reference_table"]
