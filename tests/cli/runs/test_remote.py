"""`lykke tail --from`: the same command over a bridge, without Redis and the database."""

import re
import signal
import subprocess
import sys
import uuid
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path

import orjson
import pytest

from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.domain.audit_log import AuditLogEntity
from tests.builders import entity, wire
from tests.cli_process import DEADLINE, LykkeProcess, call_lykke, environment, run_lykke
from tests.model_bridge import ModelBridge
from tests.servers import free_port, wait_until
from tests.tls import Authority, server_context

TOKEN = "sesame-open"
ENV = {"LYKKE_TOKEN": TOKEN}
USER, OTHER = uuid.uuid4(), uuid.uuid4()


@pytest.fixture
def bridge() -> Iterator[ModelBridge]:
    with ModelBridge(token=TOKEN) as model:
        yield model


def ids(rows: Sequence[dict[str, object]]) -> list[object]:
    return [row["id"] for row in rows]


def of(entities: Sequence[AuditLogEntity]) -> list[str]:
    return [str(each.id) for each in entities]


def some(number: int, user: uuid.UUID = USER) -> list[AuditLogEntity]:
    return [entity(user, meta={"n": n}) for n in range(number)]


def test_history_then_live_then_the_end_that_was_asked_for(bridge: ModelBridge) -> None:
    old, new = some(3), some(1)
    bridge.commit(*old)
    arguments = ("tail", USER, "--from", bridge.url, "--since", "1h", "--count", 4)
    with LykkeProcess(*arguments, env=ENV) as tail:
        tail.wait_for(f"following auditlog:{USER} at {bridge.url}")
        assert [tail.row()["id"] for _ in old] == of(old)
        bridge.commit(*new)
        result = tail.finish()
    assert (ids(result.rows), result.status) == (of(old + new), 0)
    assert list(result.rows[0]) == [
        *("id", "user_id", "activity_type", "occurred_at", "entity_id", "entity_type", "meta")
    ]


def test_without_following_it_ends_with_history(bridge: ModelBridge) -> None:
    old = some(2)
    bridge.commit(*old)
    arguments = ("tail", USER, "--from", bridge.url, "-n", 5, "--no-follow")
    result = run_lykke(*arguments, env=ENV)
    assert (ids(result.rows), result.status) == (of(old), 0)
    assert bridge.openings == [{"last": ["5"]}]


def test_a_table_is_drawn_at_a_terminal(bridge: ModelBridge) -> None:
    with LykkeProcess("tail", USER, "-n", 5, "--from", bridge.url, env=ENV, terminal=100) as tail:
        tail.wait_for("following")
        bridge.commit(entity(USER, "SOMETHING_DONE"))
        tail.wait_for("SOMETHING_DONE")
        tail.type("q")
        assert tail.finish().status == 0


def test_a_break_is_told_and_what_came_meanwhile_is_there_once(bridge: ModelBridge) -> None:
    entities = some(4)
    with LykkeProcess("tail", USER, "--from", bridge.url, env=ENV) as tail:
        tail.wait_for("following")
        bridge.commit(entities[0])
        rows = [tail.row()]
        for number, (end, said) in enumerate(
            [
                (bridge.cut, "broke off the connection"),
                (lambda: bridge.close(1012, "deploy"), "is restarted (deploy)"),
                (lambda: bridge.close(4408), "found this side too slow"),
            ],
            1,
        ):
            with bridge.closed_to_all():
                end()
                bridge.commit(entities[number])
            rows.append(tail.row())
            tail.wait_for(said)
            tail.wait_for("connected again", times=number)
        assert tail.stop().status == ExitCode.INTERRUPTED
    assert ids(rows) == of(entities)
    assert "3 recovered from the database, 3 times disconnected" in tail.stderr


def test_resume_goes_on_however_the_bridge_is_spelt(bridge: ModelBridge) -> None:
    first, second = some(2)
    bridge.commit(first)
    url = bridge.url
    result = run_lykke("tail", USER, "--from", url, "-n", 5, "--count", 1, env=ENV)
    assert ids(result.rows) == of([first])
    bridge.commit(second)
    spelt = f"{url.replace('http://localhost', 'WS://LOCALHOST.')}//"
    arguments = ("tail", USER, "--from", spelt, "--resume", "--no-follow")
    assert ids(run_lykke(*arguments, env=ENV).rows) == of([second])
    assert run_lykke(*arguments, env=ENV).rows == []


def test_another_bridge_and_other_filters_are_other_places(bridge: ModelBridge) -> None:
    bridge.commit(*some(1))
    run_lykke("tail", USER, "--from", bridge.url, "-n", 5, "--count", 1, env=ENV)
    resume = ("--resume", "--timeout", "200ms")
    for more in (("--from", f"{bridge.url}/other"), ("--from", bridge.url, "--grep", "x")):
        result = run_lykke("tail", USER, *more, *resume, env=ENV)
        assert "no place is stored yet" in result.stderr


def test_the_file_has_each_entry_once_though_the_process_is_killed_and_the_bridge_cuts_off(
    bridge: ModelBridge, tmp_path: Path
) -> None:
    file, entities = tmp_path / "audit.ndjson", some(60)
    arguments = ("tail", USER, "--from", bridge.url, "--since", "1h", "--to-file", file)
    for number, start in enumerate(range(0, 60, 10)):
        bridge.commit(*entities[start : start + 5])
        with LykkeProcess(*arguments, env=ENV) as tail:
            tail.wait_for("following")
            bridge.cut()
            bridge.commit(*entities[start + 5 : start + 10])
            if number % 2:
                last = str(entities[start + 9].id)
                wait_until(lambda: last in file.read_text(), "the last entry")  # noqa: B023
            tail.send(signal.SIGKILL)
            tail.process.wait(DEADLINE)
    assert run_lykke(*arguments, "--no-follow", env=ENV).status == 0
    written = [orjson.loads(line)["id"] for line in file.read_text().splitlines()]
    assert written == of(entities)


def test_several_users_are_merged_as_they_come(bridge: ModelBridge) -> None:
    mine, theirs = some(2), some(2, OTHER)
    bridge.commit(*mine)
    with LykkeProcess("tail", USER, OTHER, "-n", 9, "--from", bridge.url, env=ENV) as tail:
        assert [tail.row()["id"] for _ in mine] == of(mine)
        tail.wait_for("following")
        bridge.commit(*theirs)
        assert [tail.row()["id"] for _ in theirs] == of(theirs)
        tail.stop()
    arguments = ("tail", OTHER, USER, "--from", bridge.url, "--resume", "--no-follow")
    assert run_lykke(*arguments, env=ENV).rows == []


def test_filters_go_to_the_bridge_and_are_applied_here_too(bridge: ModelBridge) -> None:
    bridge.commit(entity(USER, "LOGIN"), entity(USER, "LOGOUT"))  # which heeds none
    filters = ("-t", "LOG*", "-x", "LOGOUT", "--no-follow", "-n", 5)
    result = run_lykke("tail", USER, "--from", bridge.url, *filters, env=ENV)
    assert [row["activity_type"] for row in result.rows] == ["LOGIN"]
    assert bridge.queries == [{"activity_type": ["LOG*"], "exclude": ["LOGOUT"], "last": ["5"]}]


def test_a_count_that_is_not_reached_is_an_expectation_not_met(bridge: ModelBridge) -> None:
    arguments = ("tail", USER, "--from", bridge.url, "--count", 1, "--timeout", "200ms")
    assert run_lykke(*arguments, env=ENV).status == ExitCode.EXPECTATION
    arguments = ("tail", USER, "--from", bridge.url, "-n", 1, "--idle", "100ms")
    assert run_lykke(*arguments, env=ENV).status == 0


def one_line(stderr: str) -> str:
    [line] = stderr.splitlines()
    return line


def test_a_wrong_token_is_told_in_a_line(bridge: ModelBridge) -> None:
    result = run_lykke("tail", USER, "--from", bridge.url, env={"LYKKE_TOKEN": "wrong"})
    assert result.status == ExitCode.UNAVAILABLE
    assert "refused the login (This token is not known). Put a token" in one_line(result.stderr)
    assert "wrong" not in result.stderr


def test_a_token_that_expires_ends_the_run_and_a_new_one_in_the_file_does_not(
    bridge: ModelBridge, tmp_path: Path
) -> None:
    file = tmp_path / "token"
    file.write_text(TOKEN)
    file.chmod(0o600)
    with LykkeProcess(
        "tail", USER, "--from", bridge.url, env={"LYKKE_TOKEN_FILE": str(file)}
    ) as tail:
        tail.wait_for("following")
        bridge.token = "renewed"
        file.write_text("renewed")
        bridge.close(4401, "expired")
        tail.wait_for("connected again")
        bridge.close(4401, "expired")
        result = tail.finish()
    assert result.status == ExitCode.UNAVAILABLE
    assert "refused the login (expired)" in result.stderr.splitlines()[-1]


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_dead_bridge_is_told_in_a_line(scheme: str) -> None:
    result = run_lykke("tail", USER, "--from", f"{scheme}://localhost:{free_port()}", env=ENV)
    assert result.status == ExitCode.UNAVAILABLE
    assert "(connection refused). Is `lykke serve` running there?" in one_line(result.stderr)


def test_a_place_that_the_bridge_refuses_is_told_and_begun_afresh_where_that_is_asked_for(
    bridge: ModelBridge, tmp_path: Path
) -> None:
    file, (first, second) = tmp_path / "audit.ndjson", some(2)
    arguments = ("tail", USER, "--from", bridge.url, "--to-file", file)
    bridge.commit(first)
    run_lykke(*arguments, "-n", 5, "--count", 1, env=ENV)
    bridge.commit(second)
    bridge.refuses_cursors = True
    result = run_lykke(*arguments, env=ENV)
    assert result.status == ExitCode.BAD_INPUT
    assert "(It was sealed with another key). Begin afresh with --since TIME" in result.stderr
    result = run_lykke(*arguments, "--since", "1h", "--count", 1, env=ENV)
    assert result.status == 0
    assert "beginning afresh by --since" in result.stderr
    assert [orjson.loads(line)["id"] for line in file.read_text().splitlines()] == of(
        [first, second]
    )


def test_a_refusal_in_the_middle_is_never_passed_over(bridge: ModelBridge) -> None:
    with LykkeProcess("tail", USER, "--from", bridge.url, "--since", "1h", env=ENV) as tail:
        tail.wait_for("following")
        bridge.refuses_cursors = True
        bridge.cut()
        result = tail.finish()
    assert result.status == ExitCode.BAD_INPUT
    assert "does not go on from the stored place" in result.stderr


@pytest.mark.parametrize(
    "payload",
    [
        b"\xff\xfe",
        "no JSON \x1b]0;owned\x07\x1b[2J",
        "[]",
        '{"type":"auditlog","data":{"id":"x\\u001b[2J"},"cursor":"c"}',
        '{"type":"auditlog_batch","data":5}',
        '{"type":"status","state":{}}',
        "{" * 100_000,
        b'{"type":"auditlog","data":%b,"cursor":"c"}' % wire(entity(OTHER)),
        "x" * (10 << 20),
    ],
    ids=range(9),
)
def test_what_a_hostile_bridge_says_is_shown_as_unreadable(
    bridge: ModelBridge, payload: bytes | str
) -> None:
    bridge.says = [payload]
    new = entity(USER)
    bridge.commit(new)
    arguments = ("tail", USER, "--from", bridge.url, "-n", 1, "--no-follow")
    result = run_lykke(*arguments, env=ENV)
    shown, entry = result.rows
    assert set(shown) == {"unreadable", "reason", "raw_base64"}
    assert (entry["id"], result.status) == (str(new.id), 0)
    with LykkeProcess(*arguments, env=ENV, terminal=80) as tail:
        assert tail.finish().status == 0
    assert not re.search(rb"\x1b\[2J|\x1b\]0", tail.stdout)


def test_what_a_bridge_says_of_a_refusal_cannot_draw(bridge: ModelBridge) -> None:
    with LykkeProcess("tail", USER, "--from", bridge.url, env=ENV) as tail:
        tail.wait_for("following")
        bridge.close(4403, "\x1b[2J[red]no\nno")
        result = tail.finish()
    assert result.status == ExitCode.UNAVAILABLE
    assert "\x1b" not in result.stderr
    assert "[red]no no" in result.stderr.splitlines()[-1]


def test_ctrl_c_ends_it_in_order_while_the_bridge_is_away() -> None:
    with ModelBridge() as model:
        tail = LykkeProcess("tail", USER, "--from", model.url)
        tail.wait_for("following")
    with tail:
        tail.wait_for("Cannot reach")
        assert tail.stop().status == ExitCode.INTERRUPTED
    assert "disconnected" in tail.stderr.splitlines()[-1]


@pytest.mark.parametrize(
    ("more", "said"),
    [
        (["--redis-url", "redis://x"], "--redis-url does not go with --from"),
        (["--database-url", "sqlite:///x"], "--database-url does not go with --from"),
        (["--live-only"], "--live-only does not go with --from"),
        (["--ack"], "lykke publish USER_ID --ack EVENT_ID"),
        (["--channel", "notification"], "--channel does not go with --from"),
        (["--reconcile", "5s"], "--reconcile does not go with --from"),
        (["--full-pace", "0.5"], "--full-pace does not go with --from"),
        (["--health-interval", "5s"], "--health-interval does not go with --from"),
        (["--no-follow"], "say which by --since, -n or --resume"),
        (["--resume", "-n", "1"], "leave --since and -n out"),
    ],
)
def test_what_does_not_go_together_is_a_usage_error(more: list[str], said: str) -> None:
    result = call_lykke("tail", USER, "--from", "https://lykke.example", *more)
    assert result.status == ExitCode.USAGE
    assert said in one_line(result.stderr)


def test_every_user_is_nobody_s_on_a_bridge() -> None:
    result = call_lykke("tail", "--all", "--from", "https://lykke.example")
    assert (result.status, "name the users" in one_line(result.stderr)) == (ExitCode.USAGE, True)


def test_an_address_that_is_sent_in_the_clear_is_refused() -> None:
    result = call_lykke("tail", USER, "--from", "http://lykke.example", env=ENV)
    assert (result.status, "use https://" in one_line(result.stderr)) == (ExitCode.USAGE, True)


def test_an_e_mail_address_cannot_be_looked_up() -> None:
    result = run_lykke("tail", "a@b.example", "--from", "https://lykke.example")
    assert result.status == ExitCode.USAGE
    assert "give the user's id" in one_line(result.stderr)


def test_a_profile_says_where_the_bridge_is(tmp_path: Path) -> None:
    ours = Authority(tmp_path, "ours")
    config = tmp_path / "config.toml"
    with ModelBridge(token=TOKEN, tls=server_context(ours.sign("localhost"))) as model:
        config.write_text(
            f'[profiles.desk]\nbridge_url = "{model.url}?ssl_ca_certs={ours.file}"\n'
            'bridge_token = "${SECRET}"\n'
        )
        env = {"LYKKE_CONFIG": str(config), "SECRET": TOKEN, "REDIS_URL": "redis://nowhere"}
        for arguments, variables, said in [
            (("--profile", "desk"), {}, f"at {model.url}\n"),
            (
                ("-p", "desk", "--redis-url", "redis://localhost:1"),
                {},
                "Redis at redis://localhost:1",
            ),
            (("--live-only",), {"LYKKE_PROFILE": "desk"}, "Redis at redis://nowhere"),
        ]:
            with LykkeProcess("tail", USER, *arguments, env=env | variables) as tail:
                tail.wait_for(said)


def test_without_the_library_it_says_which_extra_to_install() -> None:
    program = (
        "import sys\n"
        "sys.modules['websockets'] = None\n"
        "from lykke_cli.__main__ import main\n"
        f"sys.argv = ['lykke', 'tail', '{USER}', '--from', 'https://lykke.example']\n"
        "sys.exit(main())"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == ExitCode.USAGE
    assert "pip install 'lykke-cli[serve]'" in one_line(done.stderr)


def test_until_is_a_filter_like_the_others(bridge: ModelBridge) -> None:
    bridge.commit(entity(USER, occurred_at=datetime.now(UTC)))
    arguments = ("tail", USER, "--from", bridge.url, "--since", "2d", "--until", "1d")
    assert run_lykke(*arguments, "--no-follow", env=ENV).rows == []
