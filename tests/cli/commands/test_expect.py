"""`lykke expect`: what a command must cause."""

import os
import re
import signal
import sys
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from xml.etree import ElementTree

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests.builders import entity, wire
from tests.cli_process import LykkeProcess, call_lykke, run_lykke
from tests.programs import program
from tests.servers import RedisServer, wait_until

RECORD = (sys.executable, "-m", "lykke_cli", "record")
EARLY = "5m"
"""A time-out of which nothing is waited for: the verdict does not need it."""
WHOLE = "8s"
"""One that is waited for to its end, in which a slow machine runs a program."""


@pytest.fixture
def env(owner_env: dict[str, str]) -> dict[str, str]:
    return owner_env


@pytest.fixture
def user() -> uuid.UUID:
    return uuid.uuid4()


def test_what_the_command_causes_is_printed(env: dict[str, str], user: uuid.UUID) -> None:
    command = (*RECORD, user, "TASK_COMPLETED", "--meta", '{"n": 1}')
    result = run_lykke("expect", user, "--activity-type", "TASK_*", "--", *command, env=env)
    assert result.status == ExitCode.DONE, result.stderr
    [row] = result.rows
    assert row["meta"] == {"n": 1}
    assert row["id"] in result.stderr  # what the command printed


def test_a_lost_broadcast_is_found_in_the_database(env: dict[str, str], user: uuid.UUID) -> None:
    command = (*program("inserts_a_row"), env["DATABASE_URL"], user, "MESSAGE_SENT")
    result = run_lykke("expect", user, "--", *command, env=env)
    assert result.status == ExitCode.DONE, result.stderr
    assert [row["activity_type"] for row in result.rows] == ["MESSAGE_SENT"]


def test_the_subscription_is_sure_before_the_command_starts(
    env: dict[str, str], user: uuid.UUID, redis_server: RedisServer
) -> None:
    message = wire(entity(user))
    publishes = (*program("publishes"), env["REDIS_URL"], f"auditlog:{user}", message.decode())
    command = ("--live-only", "--", *publishes)
    result = run_lykke("expect", user, *command, env=env)
    assert result.status == ExitCode.DONE, result.stderr
    assert len(result.rows) == 1


def test_what_did_arrive_is_told_when_it_is_something_else(
    env: dict[str, str], user: uuid.UUID
) -> None:
    command = (*program("inserts_a_row"), env["DATABASE_URL"], user, "TASK_\x1b[31mPUNTED")
    options = ("--activity-type", "TASK_COMPLETED", "--timeout", WHOLE)
    result = run_lykke("expect", user, *options, "--", *command, env=env)
    assert (result.status, result.stdout) == (ExitCode.EXPECTATION, b"")
    assert "✗ 0 of 1 after " in result.stderr
    assert r"its activity_type is TASK_\x1b[31mPUNTED" in result.stderr


def test_nothing_is_told_too(env: dict[str, str], user: uuid.UUID) -> None:
    result = run_lykke("expect", user, "--timeout", "0.2s", "-q", env=env)
    assert result.status == ExitCode.EXPECTATION
    assert re.fullmatch(r"lykke: ✗ 0 of 1 after [\d.]+ s\n", result.stderr)


@pytest.mark.parametrize(
    ("activity_type", "timeout"), [("TASK_COMPLETED", EARLY), ("TASK_PUNTED", WHOLE)]
)
def test_none_means_not_a_single_one(
    env: dict[str, str], user: uuid.UUID, activity_type: str, timeout: str
) -> None:
    command = (*program("inserts_a_row"), env["DATABASE_URL"], user, activity_type)
    options = ("--none", "--activity-type", "TASK_COMPLETED", "--timeout", timeout)
    result = run_lykke("expect", user, *options, "--", *command, env=env)
    if activity_type == "TASK_COMPLETED":
        assert result.status == ExitCode.EXPECTATION
        assert "✗ 1 came after " in result.stderr
    else:
        assert result.status == ExitCode.DONE, result.stderr
        assert "✓ none came in " in result.stderr


def test_a_command_that_fails_is_a_failure(env: dict[str, str], user: uuid.UUID) -> None:
    script = "import sys; print('out'); print('err', file=sys.stderr); sys.exit(7)"
    command = (sys.executable, "-c", script)
    result = run_lykke("expect", user, "--timeout", EARLY, "--", *command, env=env)
    assert (result.status, result.stdout) == (ExitCode.EXPECTATION, b"")
    assert f"subscribed to auditlog:{user}; waiting up to 300 s for 1 entry\n" in result.stderr
    assert "s: the command failed with status 7\n" in result.stderr
    assert "out\n" in result.stderr
    assert "err\n" in result.stderr


def test_a_command_that_does_not_end_is_ended(env: dict[str, str], user: uuid.UUID) -> None:
    command = (sys.executable, "-c", "import time; time.sleep(60)")
    result = run_lykke("expect", user, "--none", "--timeout", "0.5s", "--", *command, env=env)
    assert result.status == ExitCode.EXPECTATION
    assert re.search(r"✗ none came after [\d.]+ s: the command had not ended\n", result.stderr)


def test_a_command_that_is_not_there(env: dict[str, str], user: uuid.UUID) -> None:
    result = run_lykke("expect", user, "--", "/nowhere/at-all", env=env)
    assert result.status == ExitCode.USAGE
    assert "Cannot run /nowhere/at-all: No such file or directory." in result.stderr


def test_a_command_that_cannot_run_has_a_shells_status_with_pass_status(
    env: dict[str, str], user: uuid.UUID, tmp_path: Path
) -> None:
    for command, status in [("/nowhere/at-all", 127), (tmp_path, 126)]:
        arguments = ("expect", user, "--live-only", "-q", "--pass-status", "--", command)
        result = run_lykke(*arguments, env=env)
        assert result.status == status
        assert result.stderr.startswith(f"lykke: Cannot run {command}: ")


@pytest.mark.parametrize("whose", ["--all", str(uuid.UUID(int=7))])
def test_a_command_that_is_empty_is_told_of(whose: str) -> None:
    result = run_lykke("expect", whose, "--", "")
    assert (result.status, result.stderr) == (
        ExitCode.USAGE,
        "lykke: The command after -- is empty.\n",
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--none", "--count", "1"], "Give one of --count and --none."),
        (["--exactly", "2", "--in-order", "A,B"], "Give one of --exactly and --in-order."),
        (["--in-order", "A,,B"], "--in-order 'A,,B' has an empty step"),
        (["--in-order", "A", "--activity-type", "B"], "leave --activity-type out"),
        (["--settle", "1s"], "--settle goes with --exactly."),
        (["--pass-status"], "give one after --."),
    ],
)
def test_options_that_exclude_each_other(options: list[str], said: str, user: uuid.UUID) -> None:
    result = call_lykke("expect", user, *options)
    assert result.status == ExitCode.USAGE
    assert said in result.stderr


@pytest.mark.parametrize(
    ("number", "timeout", "status"), [(1, WHOLE, 4), (2, EARLY, 0), (3, EARLY, 4)]
)
def test_exactly_so_many_may_come(
    env: dict[str, str], user: uuid.UUID, number: int, timeout: str, status: int
) -> None:
    inserts = (*program("inserts_a_row"), env["DATABASE_URL"], user)
    command = (
        "sh",
        "-c",
        f'for n in {"1 " * number}; do "$@" TASK_COMPLETED; done',
        "sh",
        *inserts,
    )
    options = ("--exactly", 2, "--settle", "0.5s", "--timeout", timeout, "--", *command)
    result = run_lykke("expect", user, *options, env=env)
    assert result.status == status, result.stderr
    assert len(result.rows) == number
    assert f"{'✗' if status else '✓'} {number} of 2 " in result.stderr


@pytest.mark.parametrize(
    ("order", "timeout", "status"),
    [("TASK_PUNTED,TASK_COMPLETED", EARLY, 0), ("TASK_COMPLETED,TASK_PUNTED", WHOLE, 4)],
)
def test_entries_come_in_an_order(
    env: dict[str, str], user: uuid.UUID, order: str, timeout: str, status: int
) -> None:
    kinds = ["TASK_PUNTED", "OTHER", "TASK_COMPLETED"]
    start = datetime(2026, 1, 1, tzinfo=UTC)
    messages = [
        wire(entity(user, kind, start + timedelta(minutes=n))) for n, kind in enumerate(kinds)
    ]
    late = [message.decode() for message in reversed(messages)]  # the entries' own times decide
    command = (*program("publishes"), env["REDIS_URL"], f"auditlog:{user}", *late)
    options = ("--in-order", order, "--live-only", "--timeout", timeout, "--", *command)
    result = run_lykke("expect", user, *options, env=env)
    assert result.status == status, result.stderr
    assert ("TASK_PUNTED did not come after TASK_COMPLETED" in result.stderr) == bool(status)


@pytest.mark.parametrize(("number", "timeout", "status"), [(3, EARLY, 0), (4, WHOLE, 4)])
def test_the_verdict_does_not_need_anybody_to_read_what_matches(
    env: dict[str, str], user: uuid.UUID, tmp_path: Path, number: int, timeout: str, status: int
) -> None:
    report = tmp_path / "report.xml"
    publishes = (*program("publishes"), env["REDIS_URL"], f"auditlog:{user}")
    messages = [wire(entity(user)).decode() for _ in range(3)]
    options = ("--count", number, "--timeout", timeout, "--live-only", "--junit", report)
    command = ("expect", user, *options, "--", *publishes, *messages)
    with LykkeProcess(*command, env=env, reading=False) as process:
        process._stdout.close()
        result = process.finish()
    assert result.status == status, result.stderr
    assert f"3 of {number}" in result.stderr
    [suite] = ElementTree.parse(report).getroot()
    assert suite.get("failures") == str(number - 3)


@pytest.mark.parametrize(
    ("ending", "timeout", "status"),
    [("exit 7", EARLY, 7), ("kill -9 $$", EARLY, 137), ("true", "1s", 4)],
)
def test_the_status_of_a_command_that_fails_is_handed_on(
    env: dict[str, str], user: uuid.UUID, ending: str, timeout: str, status: int
) -> None:
    options = ("--pass-status", "--timeout", timeout, "--live-only", "--", "sh", "-c", ending)
    assert run_lykke("expect", user, *options, env=env).status == status


def test_the_verdict_is_written_for_a_ci_server(
    env: dict[str, str], user: uuid.UUID, tmp_path: Path
) -> None:
    report = tmp_path / "report.xml"
    hostile = '<A>&"\x1b]0;\u202e\uffff'
    command = (*program("inserts_a_row"), env["DATABASE_URL"], user, hostile)
    options = ("--junit", report, "--count", 2, "--timeout", WHOLE, "--", *command)
    result = run_lykke("expect", user, "--activity-type", "TASK_*", *options, env=env)
    assert result.status == ExitCode.EXPECTATION
    [suite] = ElementTree.parse(report).getroot()
    assert (suite.get("tests"), suite.get("failures"), suite.get("errors")) == ("3", "2", "0")
    names = [case.get("name") for case in suite]
    assert names == ["command", "entry 1 of 2", "entry 2 of 2"]
    failures = [failure.text for case in suite for failure in case]
    assert len(failures) == 2
    assert all('its activity_type is <A>&"\\x1b]0;\\u202e\\uffff' in (t or "") for t in failures)


def test_a_report_tells_that_there_was_no_verdict(user: uuid.UUID, tmp_path: Path) -> None:
    report = tmp_path / "report.xml"
    nobody = {"REDIS_URL": "redis://127.0.0.1:1"}
    result = run_lykke("expect", user, "--junit", report, "--live-only", env=nobody)
    assert result.status == ExitCode.UNAVAILABLE
    [suite] = ElementTree.parse(report).getroot()
    assert (suite.get("tests"), suite.get("errors")) == ("1", "1")


def test_a_report_replaces_no_file_of_somebody_else(user: uuid.UUID, tmp_path: Path) -> None:
    report = tmp_path / "main.py"
    report.write_text("print()")
    result = run_lykke("expect", user, "--junit", report)
    assert result.status == ExitCode.BAD_INPUT
    assert report.read_text() == "print()"


def test_a_report_that_cannot_be_written_hides_no_verdict(
    env: dict[str, str], user: uuid.UUID, tmp_path: Path
) -> None:
    folder = tmp_path / "reports"
    folder.mkdir()
    options = ("--junit", folder / "report.xml", "--live-only", "--none", "--timeout", "3s")
    result = run_lykke("expect", user, *options, "--", "rm", "-r", folder, env=env)
    assert result.status == ExitCode.BAD_INPUT
    verdict, failure = result.stderr.splitlines()[-2:]
    assert "✓ none came in " in verdict
    assert failure.startswith("lykke: Cannot write ")


def test_on_a_terminal_the_time_left_is_counted_and_the_command_is_told_apart(
    env: dict[str, str], user: uuid.UUID
) -> None:
    script = "import sys; print('tty', sys.stdout.isatty()); print('half', end='', flush=True)"
    command = (sys.executable, "-c", script)
    options = ("--none", "--timeout", "4s", "--live-only", "--", *command)
    with LykkeProcess("expect", user, *options, env=env, terminal=80) as process:
        result = process.finish()
    shown = re.sub(r"\x1b\[[0-9;]*m", "", result.stdout.decode()).replace("\r\n", "\n")
    assert result.status == ExitCode.DONE
    assert re.search(r"none came · [1-4] s left", shown)
    assert "│ tty True\n│ half\nlykke: ✓ none came in " in shown


def test_on_a_terminal_an_outage_is_told_as_it_comes(
    own_redis: RedisServer, sqlite_url: str, user: uuid.UUID
) -> None:
    env = {"REDIS_URL": own_redis.url, "DATABASE_URL": sqlite_url}
    with LykkeProcess("expect", user, "--timeout", "30s", env=env, terminal=80) as process:
        process.wait_for("waiting")
        own_redis.kill()
        process.wait_for("trying again")
        own_redis.start()
        process.wait_for("connected again")


def test_ctrl_c_ends_the_command_too(env: dict[str, str], user: uuid.UUID) -> None:
    script = "import sys, time; print('started', file=sys.stderr, flush=True); time.sleep(60)"
    with LykkeProcess("expect", user, "--", sys.executable, "-c", script, env=env) as process:
        process.wait_for("started")
        os.killpg(process.process.pid, signal.SIGINT)  # as a terminal does it
        result = process.finish()
    assert result.status == ExitCode.INTERRUPTED
    assert "Unknown child" not in result.stderr


@pytest.mark.parametrize(
    ("options", "count"),
    [
        (["--activity-type", "TaskMoved"], 1),
        (["--query", "event_data.n > `1`"], 2),
        (["--grep", "nothing"], 0),
        ([], 3),
    ],
)
def test_on_other_channels_any_object_is_expected(
    env: dict[str, str], user: uuid.UUID, options: list[str], count: int
) -> None:
    payloads = [
        '{"id":"1","event_type":"TaskMoved","event_data":{"n":2}}',
        '{"id":"2","event_type":"TaskMade","event_data":{"n":3}}',
        '{"type":"note"}',
        "no JSON",
    ]
    publishes = (*program("publishes"), env["REDIS_URL"], f"domain-events:{user}", *payloads)
    words = ("--channel", "domain-events", "--count", max(count, 1), *options)
    timeout = ("--timeout", EARLY if count else WHOLE)
    result = run_lykke("expect", user, *words, *timeout, "--", *publishes, env=env)
    assert (result.status == ExitCode.DONE) == bool(count), result.stderr
    assert len(result.rows) == count
    if not count:
        assert "✗ 0 of 1 after " in result.stderr
        assert "TaskMoved 1: --grep does not hold for it" in result.stderr
        assert "1 message came that is no JSON object." in result.stderr


def lives(pid: int) -> bool:
    """Whether the process is there, other than as one whose end nobody has asked for."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return stat.rpartition(")")[2].split()[0] != "Z"


def assert_ends(pid: int) -> None:
    """Who was killed is there a moment longer than whoever killed it."""
    wait_until(lambda: not lives(pid), "it ends")


def with_a_child(ending: str) -> tuple[str, ...]:
    """A command that tells the id of a process which it starts."""
    return ("sh", "-c", f'sleep 60 2>&- >&- & echo "child=$!." >&2; {ending}')


def child_of(stderr: str) -> int:
    return int(stderr.partition("child=")[2].partition(".")[0])


@pytest.mark.parametrize("ending", ["wait", "true", "false"], ids=["goes on", "succeeds", "fails"])
def test_what_the_command_started_is_ended_when_it_fails(
    env: dict[str, str], user: uuid.UUID, ending: str
) -> None:
    options = ("--timeout", "3s", "--live-only", "--", *with_a_child(ending))
    result = run_lykke("expect", user, *options, env=env)
    assert result.status == ExitCode.EXPECTATION
    assert_ends(child_of(result.stderr))


def test_what_does_not_end_when_it_is_asked_to_is_killed(
    env: dict[str, str], user: uuid.UUID
) -> None:
    trapped = ("sh", "-c", "trap '' TERM; " + with_a_child("wait")[2])
    result = run_lykke("expect", user, "--none", "--timeout", "3s", "--", *trapped, env=env)
    assert result.status == ExitCode.EXPECTATION
    assert_ends(child_of(result.stderr))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_what_the_command_started(
    env: dict[str, str], user: uuid.UUID, number: int
) -> None:
    with LykkeProcess("expect", user, "--", *with_a_child("wait"), env=env) as process:
        process.wait_for("child=")
        result = process.stop(number)
    assert result.status == 128 + number
    assert_ends(child_of(result.stderr))


def test_what_a_command_that_succeeds_leaves_in_the_background_goes_on(
    env: dict[str, str], user: uuid.UUID
) -> None:
    command = with_a_child("true")
    result = run_lykke("expect", user, "--none", "--timeout", "3s", "--", *command, env=env)
    assert result.status == ExitCode.DONE, result.stderr
    child = child_of(result.stderr)
    assert lives(child)
    os.kill(child, signal.SIGKILL)


def test_what_is_left_in_the_background_can_still_write_to_the_terminal(
    env: dict[str, str], user: uuid.UUID, tmp_path: Path
) -> None:
    is_over, outcome = tmp_path / "is-over", tmp_path / "outcome"
    os.mkfifo(is_over)
    os.mkfifo(outcome)
    left = f"(cat {is_over}; echo still here; echo $? > {outcome}) & true"
    options = ("--none", "--timeout", "3s", "--live-only", "--", "sh", "-c", left)
    with LykkeProcess("expect", user, *options, env=env, terminal=80) as process:
        assert process.process.wait(20) == ExitCode.DONE
        is_over.write_text("")
        assert outcome.read_text() == "0\n"
        assert "still here" in process.finish().stdout.decode()


@pytest.mark.timeout(1800)
def test_run_after_run_succeeds(env: dict[str, str], user: uuid.UUID) -> None:
    """As often as EXPECT_RUNS says: `make soak` does it 200 times."""
    for n in range(int(os.environ.get("EXPECT_RUNS", "1"))):
        command = (*RECORD, user, f"RUN_{n}", "--quiet")
        options = ("--activity-type", f"RUN_{n}", "--timeout", EARLY)
        result = run_lykke("expect", user, *options, "--", *command, env=env, timeout=60)
        assert (result.status, len(result.rows)) == (ExitCode.DONE, 1), (n, result.stderr)
