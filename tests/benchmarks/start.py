"""How soon the commands are there, beside an interpreter that does nothing; an idle tail's memory.

Run by hand (`make bench`); starts its own servers. sqlite-utils takes part where it is installed.
"""

import compileall
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Mapping
from pathlib import Path

import lykke_cli
from tests.benchmarks.measure import alternate, head, memory, running, show, wait_for_subscriber
from tests.benchmarks.peers import peer_words
from tests.cli_process import command, environment
from tests.servers import PostgresServer, RedisServer

COMPLETION = {
    "_LYKKE_COMPLETE": "complete_bash",
    "COMP_WORDS": "lykke tail --activity-type T",
    "COMP_CWORD": "3",
}


def timed(arguments: list[str], env: Mapping[str, str] | None = None) -> Callable[[], float]:
    def run() -> float:
        started = time.perf_counter()
        subprocess.run(
            arguments, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment(env)
        )
        return (time.perf_counter() - started) * 1000

    return run


def main() -> None:
    compileall.compile_dir(str(Path(lykke_cli.__file__).parent), quiet=1)  # as an installation is
    with RedisServer() as redis, PostgresServer() as postgres:
        postgres.make_templates()
        env = {
            "REDIS_URL": redis.url,
            "DATABASE_URL": postgres.url(postgres.make_database()),
        }

        def subscribed() -> float:
            user = str(uuid.uuid4())
            started = time.perf_counter()
            with running(command("tail", user), env, subprocess.DEVNULL):
                wait_for_subscriber(redis, f"auditlog:{user}")
                return (time.perf_counter() - started) * 1000

        contenders = {
            "python -c pass": timed([sys.executable, "-c", "pass"]),
            "lykke --version": timed(command("--version")),
            "lykke --help": timed(command("--help")),
            "lykke, completion of a value": timed(command(), COMPLETION),
            "lykke tail, subscribed, with a database": subscribed,
        }
        peer = shutil.which("sqlite-utils")
        if peer is not None:
            contenders["sqlite-utils --version"] = timed([peer, "--version"])
            contenders["sqlite-utils --help"] = timed([peer, "--help"])
        times = alternate(contenders, 9)
        head("Start", "", "ms", "ratio")
        for name, taken in times.items():
            show(name, f"{taken:.0f}", f"{taken / times['python -c pass']:.1f}")

        head("Idle", "", "MiB")
        user = str(uuid.uuid4())
        idle = {
            "redis-py, asyncio": [*peer_words("redis_py_idle"), redis.url, f"auditlog:{user}"],
            "lykke tail --live-only": command("tail", user, "--live-only"),
            "lykke tail, with a database": command("tail", user),
        }
        for name, arguments in idle.items():
            with running(arguments, env, subprocess.DEVNULL) as process:
                wait_for_subscriber(redis, f"auditlog:{user}")
                time.sleep(1)
                show(name, f"{memory(process.pid):.0f}")


if __name__ == "__main__":
    main()
