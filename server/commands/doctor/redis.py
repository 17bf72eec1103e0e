"""Check Redis: reachability, latency and clock."""

import time
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from persistence.errors import StartError
from server.commands.doctor.findings import Finding, Findings
from server.process import embedded_valkey
from server.settings import Settings

MOST_OFF = 2.0
"""Seconds by which clocks may differ: an expiry or a signature of a webhook is a matter of minutes."""

SLOW = 0.02
"""Seconds for one answer of a database or Redis: each call waits for several of them."""

LATE = 300
"""Seconds for which a delivery may be due before somebody should look whether there is a worker."""

CALL_SECONDS = 5


# --- Redis -------------------------------------------------------------------------------------------


async def check_redis(settings: Settings) -> Findings:
    if not settings.redis_url:
        try:
            yield Finding("ok", "redis", f"embedded Valkey ({Path(embedded_valkey.program()).name})")
        except StartError as error:
            yield Finding("fault", "redis", str(error).rstrip("."))
        return
    client = Redis.from_url(
        settings.redis_url, socket_timeout=CALL_SECONDS, socket_connect_timeout=CALL_SECONDS
    )
    try:
        # The first call also connects.
        await client.ping()
        began = time.perf_counter()
        seconds, micros = await client.time()
        took = time.perf_counter() - began
        server, memory = await client.info("server"), await client.info("memory")
    except (RedisError, OSError, TimeoutError) as error:
        yield Finding(
            "fault",
            "redis",
            f"it does not answer ({str(error).splitlines()[0] if str(error) else type(error).__name__})",
            "start it, or correct CLOUDARC_REDIS_URL; until then each process counts for itself",
        )
        return
    finally:
        await client.aclose()
    yield check_latency("redis", f"Redis {server.get('valkey_version') or server['redis_version']}", took)
    yield check_clock("redis", seconds + micros / 1_000_000 - time.time())
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if memory.get("maxmemory") and policy != "noeviction" and not policy.startswith("volatile-"):
        yield Finding(
            "advice",
            "redis",
            f"when its memory is full it may forget counters ({policy})",
            "set maxmemory-policy to volatile-ttl or noeviction",
        )


def check_latency(subject: str, what: str, took: float) -> Finding:
    text = f"{what} answers in {took * 1000:.1f} ms"
    if took > SLOW:
        return Finding("advice", subject, text, "have it nearer; each call waits for several answers")
    return Finding("ok", subject, text)


def check_clock(subject: str, off: float) -> Finding:
    if abs(off) > MOST_OFF:
        return Finding(
            "fault",
            "clock",
            f"the clock of this machine and that of {subject} differ by {abs(off):.0f} s",
            "let NTP set both",
        )
    return Finding("ok", "clock", f"as that of {subject}")
