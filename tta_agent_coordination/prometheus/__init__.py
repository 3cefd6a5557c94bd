"""Prometheus: counters and histograms of events, and gauges that are read when it scrapes.

Needs ``tta-agent-coordination[prometheus]``. Labels have few values: types of agents and never
instances or ids, and no more types than
`DEFAULT_AGENT_TYPES`; the others go by ``(other)``.

Under a server that forks, use the multiprocess mode of prometheus-client. What `Metrics` keeps is
then added up over the processes. An `InboxCollector` looks at Redis, which has one answer for all
of them: register it with the registry that is scraped, in whichever process that is.
"""

from importlib import import_module

try:
    import_module("prometheus_client")
except ImportError as error:
    raise ImportError(
        "prometheus-client is not installed: pip install 'tta-agent-coordination[prometheus]'"
    ) from error

from tta_agent_coordination.prometheus.collector import DEFAULT_INBOXES, InboxCollector
from tta_agent_coordination.prometheus.labels import DEFAULT_AGENT_TYPES
from tta_agent_coordination.prometheus.metrics import BUCKETS, Metrics, instrument

__all__ = [
    "BUCKETS",
    "DEFAULT_AGENT_TYPES",
    "DEFAULT_INBOXES",
    "InboxCollector",
    "Metrics",
    "instrument",
]
