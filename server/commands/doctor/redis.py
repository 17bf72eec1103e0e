"""Check Redis: whether it answers, its latency, its clock and its memory policy."""

import time
from pathlib import Path

from redis.asyncio import Redis
from redis.exceptions import RedisError

from persistence.errors import StartError
from server.commands.doctor.findings import Finding, Findings, advise, fault, ok
from server.process import embedded_valkey
from server.settings import Settings

MOST_OFF = 2.0
"""Seconds by which clocks may differ. Expiry and webhook signatures are a matter of minutes."""

SLOW = 0.02
"""Seconds of one answer of a database or Redis above which the doctor advises. A call waits for several."""

LATE = 300
"""Seconds that a delivery may be overdue before the doctor asks for a worker."""

CALL_SECONDS = 5


async def check_redis(settings: Settings) -> Findings:
    if not settings.redis_url:
        try:
            yield ok("redis", f"embedded Valkey ({Path(embedded_valkey.program()).name})")
        except StartError as error:
            yield fault("redis", error)
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
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        advice = "start it, or correct CLOUDARC_REDIS_URL; until then each process counts for itself"
        yield fault("redis", f"it does not answer ({reason})", advice)
        return
    finally:
        await client.aclose()
    yield check_latency("redis", f"Redis {server.get('valkey_version') or server['redis_version']}", took)
    yield check_clock("redis", seconds + micros / 1_000_000 - time.time())
    policy = str(memory.get("maxmemory_policy", "noeviction"))
    if memory.get("maxmemory") and policy != "noeviction" and not policy.startswith("volatile-"):
        text = f"when its memory is full it may forget counters ({policy})"
        yield advise("redis", text, "set maxmemory-policy to volatile-ttl or noeviction")


def check_latency(subject: str, what: str, took: float) -> Finding:
    text = f"{what} answers in {took * 1000:.1f} ms"
    if took > SLOW:
        return advise(subject, text, "have it nearer; each call waits for several answers")
    return ok(subject, text)


def check_clock(subject: str, off: float) -> Finding:
    if abs(off) > MOST_OFF:
        text = f"the clock of this machine and that of {subject} differ by {abs(off):.0f} s"
        return fault("clock", text, "let NTP set both")
    return ok("clock", f"as that of {subject}")
