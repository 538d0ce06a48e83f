"""Attack the promise from outside: `python -m tests.nemesis --help`."""

import argparse
import os
import shlex
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from tests.nemesis import oracle
from tests.nemesis import plan as plans
from tests.nemesis.attack import Servers, attack
from tests.nemesis.cluster import NemesisServer
from tests.nemesis.oracle import Violation
from tests.nemesis.plan import AnyStep, Plan
from tests.nemesis.process import fork_readers_of
from tests.nemesis.shrink import shrink

SHRINK_SECONDS = 180.0  # for one plan
REPORTS = Path(tempfile.gettempdir())
MEMORY = Path("/dev/shm")
ROOM = 2 << 30  # bytes
CONFIRMATIONS = 2  # runs in which a shorter plan must fail once


def main(words: Sequence[str]) -> int:
    """Run plans; 0 when all were passed, 1 when one was not, 2 when one could not be run."""
    options = _options(words)
    if options.list:
        _say("\n".join(plans.MOTIFS))
        return 0
    only = frozenset(filter(None, options.only.split(",")))
    if unknown := only - plans.MOTIFS.keys():
        sys.stderr.write(f"nemesis: no such fault: {', '.join(sorted(unknown))} (see --list)\n")
        return 2
    code = Path(options.code or Path(__file__).parents[2]).resolve()
    options.finds, options.plan = (
        path and str(Path(path).resolve()) for path in (options.finds, options.plan)
    )
    if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN:  # nohup: readers would heed it too
        signal.signal(signal.SIGHUP, lambda *_: None)
    os.chdir(code)
    os.environ["PYTHONPATH"] = str(code)
    fork_readers_of(code)
    if _is_roomy(MEMORY):
        tempfile.tempdir = str(MEMORY)  # copies of a data folder are made at once there
    template = NemesisServer.template()
    try:
        hunt = Hunt(template, options, only)
        hunt.run()
    finally:
        template.close()
    return hunt.summary()


def _is_roomy(folder: Path) -> bool:
    return os.access(folder, os.W_OK) and shutil.disk_usage(folder).free > ROOM


def _options(words: Sequence[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m tests.nemesis",
        description="Draws workloads, readers and faults from seeds, runs them on real servers, "
        "and compares what each reader has with the table.",
    )
    parser.add_argument("--seed", type=int, help="one plan")
    parser.add_argument("--seeds", metavar="A..B", help="these plans")
    parser.add_argument("--from", dest="first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--minutes", type=float, default=1.0, help="how long (1)")
    parser.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="plans at a time")
    parser.add_argument("--only", default="", metavar="FAULT,...", help="plans of these alone")
    parser.add_argument("--list", action="store_true", help="the names of the faults")
    parser.add_argument(
        "--code", metavar="FOLDER", default="", help="the checkout whose lykke is attacked"
    )
    parser.add_argument("--plan", metavar="FILE", help="a plan that was shortened (JSON)")
    parser.add_argument("--shrink", action="store_true", help="shorten what fails")
    parser.add_argument("--first-only", action="store_true", help="end with the first that fails")
    parser.add_argument("--finds", metavar="FILE", help="append a line for each that fails")
    parser.add_argument("-v", "--verbose", action="store_true", help="show every step")
    return parser.parse_args(words)


class Hunt:
    """Plans, one after another in each of several threads."""

    def __init__(
        self, template: NemesisServer, options: argparse.Namespace, only: frozenset[str]
    ) -> None:
        self._template = template
        self._options = options
        self._only = only
        self._started = time.monotonic()
        self._lock = threading.Lock()
        self._plans = self._all_plans()
        self._over = False
        self._passed = 0
        self._too_long = 0
        self._failed: list[tuple[Plan, list[Violation]]] = []
        self._broken: list[int] = []
        self._motifs: Counter[str] = Counter()

    def run(self) -> None:
        threads = [threading.Thread(target=self._work) for _ in range(self._options.jobs)]
        for thread in threads:
            thread.start()
        try:
            for thread in threads:
                thread.join()
        except KeyboardInterrupt:
            self._over = True
            for thread in threads:
                thread.join()

    def summary(self) -> int:
        seconds = time.monotonic() - self._started
        tried = self._passed + len(self._failed)
        _say(
            f"nemesis: {tried} plans in {seconds:.0f} s: {self._passed} passed, "
            f"{len(self._failed)} failed"
            + (f", {len(self._broken)} could not be run" if self._broken else "")
            + (f", {self._too_long} longer than the time left" if self._too_long else "")
        )
        _say("  " + ", ".join(f"{name} {n}" for name, n in sorted(self._motifs.items())))
        for plan, found in self._failed:
            _say(f"  seed {plan.seed}: {'; '.join(sorted(map(str, oracle.kinds(found))))}")
        return 1 if self._failed else 2 if self._broken or not tried else 0

    @property
    def _is_bounded(self) -> bool:
        options = self._options
        return options.seed is None and options.seeds is None and options.plan is None

    def _all_plans(self) -> Iterator[Plan]:
        options = self._options
        if options.plan:
            yield plans.decode(Path(options.plan).read_bytes())
            return
        seeds: Iterator[int] = count(options.first)
        if options.seed is not None:
            seeds = iter([options.seed])
        elif options.seeds:
            low, _, high = options.seeds.partition("..")
            seeds = iter(range(int(low), int(high) + 1))
        for seed in seeds:
            yield plans.draw(seed, self._only)

    def _next(self) -> Plan | None:
        with self._lock:
            while not self._over:
                left = self._options.minutes * 60 - (time.monotonic() - self._started)
                if self._is_bounded and left <= 0:
                    return None
                plan = next(self._plans, None)
                if plan is None or not self._is_bounded or plan.duration <= left:
                    return plan
                self._too_long += 1
                if left < 5 or self._too_long % 20 == 0:
                    return None
            return None

    def _work(self) -> None:
        with Servers(self._template) as servers:
            while (plan := self._next()) is not None:
                self._attack(plan, servers)

    def _attack(self, plan: Plan, servers: Servers) -> None:
        started = time.monotonic()
        log: list[str] = []
        try:
            found = attack(plan, servers, log.append)
        except Exception:
            with self._lock:
                self._broken.append(plan.seed)
                _say(f"nemesis: seed {plan.seed} could not be run")
                _say("\n".join([plans.describe(plan), *log, traceback.format_exc()]))
            servers.renew()
            return
        with self._lock:
            self._motifs.update(plan.motifs)
            if self._options.verbose:
                _say("\n".join([plans.describe(plan), *log]))
            took = time.monotonic() - started
            if not found:
                self._passed += 1
                _say(f"seed {plan.seed}: passed in {took:.1f} s ({', '.join(plan.motifs)})")
                return
            self._failed.append((plan, found))
            self._over = self._over or self._options.first_only
            self._report(plan, found, took, log)
        if self._options.shrink:
            self._shrink(plan, found, servers)

    def _report(self, plan: Plan, found: list[Violation], took: float, log: list[str]) -> None:
        at = time.monotonic() - self._started
        motifs = ", ".join(plan.motifs)
        _say(f"seed {plan.seed}: FAILED in {took:.1f} s, {at:.0f} s after the start ({motifs})")
        for violation in found:
            _say(f"    {violation}")
        path = REPORTS / f"nemesis-{plan.seed}.log"
        path.write_text("\n".join([plans.describe(plan), *log, ""]))
        _say(f"    what everybody said: {path}")
        _say(f"    replay it: make nemesis ARGS='{shlex.join(self._replay(plan))}'")
        if self._options.finds:
            with open(self._options.finds, "a") as file:
                texts = " | ".join(map(str, found))
                file.write(f"{plan.seed}\t{at:.0f}\t{','.join(plan.motifs)}\t{texts}\n")

    def _replay(self, plan: Plan) -> list[str]:
        words = ["--seed", str(plan.seed)]
        if self._only:
            words += ["--only", ",".join(sorted(self._only))]
        if self._options.code:
            words += ["--code", self._options.code]
        return words

    def _shrink(self, plan: Plan, found: list[Violation], servers: Servers) -> None:
        end = time.monotonic() + SHRINK_SECONDS
        wanted = set(oracle.kinds(found))

        def fails(steps: tuple[AnyStep, ...]) -> bool:
            for _ in range(CONFIRMATIONS):
                if time.monotonic() > end or self._over:
                    return False
                try:
                    again = attack(plan.with_steps(steps), servers, lambda _: None)
                except Exception:
                    servers.renew()
                    return False
                if wanted & set(oracle.kinds(again)):
                    return True
            return False

        short = plan.with_steps(shrink(plan.steps, fails))
        path = REPORTS / f"nemesis-{plan.seed}.json"
        path.write_bytes(plans.encode(short))
        with self._lock:
            _say(f"seed {plan.seed} shortened ({path}):\n{plans.describe(short)}")


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
