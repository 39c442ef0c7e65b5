"""What delivery counts, under the names that users of this family of meshes have on dashboards.

What comes in: a Prometheus registry and the events of ``server`` and ``registry``. What goes out:
series with the prefix ``fsm_``.

Invariants: label values come from fixed sets or from identities that the API server has proved, so
a stranger cannot make series.
"""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

_SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class DeliveryMetrics:
    """The series of one delivery server."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.connected = Gauge(
            "fsm_proxy_connect_count", "Proxies that are connected now.", registry=registry
        )
        self.reconnected = Counter(
            "fsm_proxy_reconnect_count",
            "Proxies that came back after they had been lost.",
            registry=registry,
        )
        self.sent = Counter(
            "fsm_proxy_response_send_success_count",
            "Configurations sent.",
            ["identity"],
            registry=registry,
        )
        self.refused = Counter(
            "fsm_proxy_response_send_error_count",
            "Configurations that a proxy refused.",
            ["identity"],
            registry=registry,
        )
        self.polls = Counter(
            "fsm_proxy_xds_request_count",
            "Polls for a configuration, by the HTTP status of the answer.",
            ["status"],
            registry=registry,
        )
        self.issued = Counter(
            "fsm_cert_issued_count", "Certificates issued to proxies.", registry=registry
        )
        self.issue_time = Histogram(
            "fsm_cert_issued_time",
            "Seconds to review a token and issue a certificate.",
            buckets=_SECONDS,
            registry=registry,
        )
        self.denied = Counter(
            "fsm_cert_denied_count",
            "Requests for a certificate that were denied, by HTTP status.",
            ["status"],
            registry=registry,
        )
        self.applied = Histogram(
            "fsm_time_to_applied_seconds",
            "Seconds from the API event of a change to its acknowledgement by a proxy.",
            buckets=_SECONDS,
            registry=registry,
        )
