"""Numbers for Prometheus, on a port of their own that this machine alone can reach.

Every process serves its own: an instance is a process, as Prometheus sees it, and what they have in
common (the backlog of webhooks) each reads from the database.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable, Iterable
from concurrent.futures import CancelledError
from contextlib import asynccontextmanager, suppress
from datetime import datetime
from time import perf_counter
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, ProcessCollector, start_http_server
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from persistence import delivery_queue
from persistence.counters import Counters
from persistence.database import Database
from persistence.errors import Unavailable
from server.observe import logs
from server.request.context import RequestContext

logger = logging.getLogger("cloudarc")

HOST = "127.0.0.1"
RETRY_SECONDS = 1.0
BACKLOG_SECONDS = 1.0
"""The timeout of the query for the backlog. After it the metrics omit the backlog."""

BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The metrics of one process."""

    def __init__(self, database: Database, counters: Counters, clock: Callable[[], datetime]) -> None:
        self.registry = CollectorRegistry()
        self.requests = Counter(
            "cloudarc_requests",
            "Responses by operation and status; 499: the caller disconnected.",
            ["operation", "status"],
            registry=self.registry,
        )
        self.latency = Histogram(
            "cloudarc_request_seconds",
            "Seconds from a request's headers to the end of its answer.",
            ["operation"],
            buckets=BUCKETS,
            registry=self.registry,
        )
        ProcessCollector(registry=self.registry)
        self.state = MetricsState(database, counters, clock)
        self.registry.register(self.state)
        # The library looks up labels under a lock; this cache needs none.
        self.children: dict[tuple[str, int], tuple[Counter, Histogram]] = {}

    def count(self, context: RequestContext) -> None:
        """Count a finished request."""
        key = (context.operation, context.status)
        try:
            requests, latency = self.children[key]
        except KeyError:
            requests = self.requests.labels(key[0], str(key[1]))
            latency = self.latency.labels(key[0])
            self.children[key] = (requests, latency)
        requests.inc()
        latency.observe(perf_counter() - context.started)

    @asynccontextmanager
    async def served(self, ports: Iterable[int]) -> AsyncIterator[None]:
        """Serve the metrics on the first free port, as long as the context lasts."""
        self.state.loop = asyncio.get_running_loop()
        serving = asyncio.create_task(self._serve(ports))
        try:
            yield
        finally:
            serving.cancel()
            with suppress(asyncio.CancelledError):
                await serving

    async def _serve(self, ports: Iterable[int]) -> None:
        # A worker process may start before the one that it replaces has released its port.
        while (server := self._start(ports)) is None:
            await asyncio.sleep(RETRY_SECONDS)
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.to_thread(server.shutdown)
            server.server_close()

    def _start(self, ports: Iterable[int]) -> Any:
        for port in ports:
            with suppress(OSError):
                server, _ = start_http_server(port, addr=HOST, registry=self.registry)
                logger.info("metrics", extra={"fields": {"address": f"http://{HOST}:{port}/metrics"}})
                return server
        return None


class MetricsState:
    """Metrics that are read when Prometheus scrapes, in the thread that answers it."""

    def __init__(self, database: Database, counters: Counters, clock: Callable[[], datetime]) -> None:
        self.database = database
        self.counters = counters
        self.clock = clock
        self.loop: asyncio.AbstractEventLoop | None = None

    def describe(self) -> Iterable[Metric]:
        """Return nothing. The metrics are known at the first scrape."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Return the current state."""
        yield GaugeMetricFamily(
            "cloudarc_limiter_degraded",
            "1 while this process counts calls itself because Redis does not answer.",
            int(self.counters.degraded),
        )
        yield CounterMetricFamily(
            "cloudarc_limiter_fallbacks",
            "Calls that this process counted itself because Redis did not answer.",
            self.counters.failures,
        )
        yield CounterMetricFamily(
            "cloudarc_log_lines_dropped",
            "Log lines that were dropped because stdout was blocked.",
            logs.dropped(),
        )
        found = self._backlog()
        if found is not None:
            yield GaugeMetricFamily(
                "cloudarc_webhook_deliveries_due", "Deliveries that are due and not in flight.", found[0]
            )
            yield GaugeMetricFamily(
                "cloudarc_webhook_oldest_due_seconds", "Seconds since the oldest became due.", found[1]
            )

    def _backlog(self) -> tuple[int, float] | None:
        if self.loop is None:
            return None
        looking = asyncio.run_coroutine_threadsafe(self._look(), self.loop)
        try:
            return looking.result(BACKLOG_SECONDS)
        except (TimeoutError, CancelledError, Unavailable):
            looking.cancel()
            return None

    async def _look(self) -> tuple[int, float]:
        async with self.database.reading() as db:
            return await delivery_queue.backlog(db, self.clock())
