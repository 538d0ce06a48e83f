"""Two workers that tell what happens to them; argument: how they behave."""

import os
import sys
import threading
import time
from functools import partial

from lykke_cli.application.errors import ServerUnavailable
from lykke_cli.web.workers import Parent, Workers


def say(*words: object) -> None:
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def work(kind: str, parent: Parent, place: int) -> None:
    """Say that it works, and what it is stopped with; `fail` and `hang` do so."""
    stopped, drains = threading.Event(), list[float | None]()

    def stop(drain: float | None) -> None:
        drains.append(drain)
        stopped.set()

    parent.watch(stop)
    if kind == "fail":
        parent.failed(ServerUnavailable("It is not there.", remedy="Start it."))
        return
    parent.ready()
    say("works", place, os.getpid())
    stopped.wait()
    say("stopped", place, drains[0])
    if kind == "hang":
        time.sleep(600)


def main() -> None:
    workers = Workers(
        partial(work, sys.argv[1]),
        2,
        drain=20.0,
        on_ready=lambda: say("ready"),
        on_stop=lambda drain: say("stopping", drain),
        tell=lambda line: say("told", line),
    )
    try:
        workers.run()
    except ServerUnavailable as error:
        say("raised", error)
    say("interrupted" if workers.is_interrupted else "ended")


if __name__ == "__main__":
    main()
