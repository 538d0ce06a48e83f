"""The README and docs/ keep their word: code and commands run as written, links lead somewhere."""

import re
import shlex
import sys
from pathlib import Path

import pytest

from lykke_cli.cli.exit_codes import ExitCode
from tests.cli_process import LykkeProcess, call_lykke, run_lykke
from tests.servers import RedisServer

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
DOCS = sorted((ROOT / "docs").glob("*.md"))
USER = "3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10"  # the demo's first


def blocks(page: Path, language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", page.read_text("utf-8"), re.DOTALL)


def commands(page: Path) -> list[str]:
    """Those of lykke, without what comes before or after in a pipe, and where it goes."""
    lines = [
        line.split(" #")[0].strip() for block in blocks(page, "sh") for line in block.split("\n")
    ]
    return [
        re.sub(r" > [\w.]+$", "", part.strip())
        for line in lines
        for part in line.split(" | ")
        if part.strip().startswith("lykke ")
    ]


def words_of(command: str) -> list[str]:
    """The arguments, as a shell gives them."""
    return shlex.split(command.replace("$U", USER))[1:]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


SNIPPETS = [(page.name, code) for page in (README, *DOCS) for code in blocks(page, "python")]
COMMANDS = sorted({command for page in (README, *DOCS) for command in commands(page)})


@pytest.mark.parametrize("database", ["sqlite_url", "postgres_url"])
@pytest.mark.parametrize(("page", "snippet"), SNIPPETS)
def test_the_library_snippets_run_as_written(
    page: str,
    snippet: str,
    database: str,
    request: pytest.FixtureRequest,
    redis_server: RedisServer,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("REDIS_URL", redis_server.url)
    url = request.getfixturevalue(database)
    exec(compile(snippet, page, "exec"), {"DATABASE_URL": url})


def test_there_are_snippets_and_commands() -> None:
    assert SNIPPETS
    assert len(COMMANDS) > 50


@pytest.mark.parametrize("line", COMMANDS)
def test_every_option_shown_exists(line: str) -> None:
    words = words_of(line)
    words = words[: words.index("--")] if "--" in words else words
    command = words[:2] if words[0] == "profile" else [word for word in words[:1] if word[0] != "-"]
    text = call_lykke(*command, "--help", env={"COLUMNS": "200"}).stdout.decode()
    for option in (word.split("=")[0] for word in words if word.startswith("-")):
        assert option == "-" or option in text


ELSEWHERE = {
    "lykke demo": "what this runs beside; see test_demo.py",
    "--install-completion": "asks which shell it runs in; see test_completion.py",
    "rediss://": "needs certificates; see test_tls.py",
    "sslmode=": "needs certificates; see test_tls.py",
    "--profile prod": "is on no machine of ours",
    "--none": "somebody is always at work in the demo; see test_expect.py",
    "make import": "is the reader's own; see test_expect.py",
    "./pay.sh": "is the reader's own; see test_expect.py",
    "./order.sh": "is the reader's own; see test_expect.py",
    "lykke show 4a1d6cc5": "is no entry of the demo; see test_show.py",
    "--columns time": "names columns of the table, which a pipe has not; see test_live_table.py",
    "--from http": "needs a bridge; see cli/runs/test_remote.py",
    "lykke relay": "goes on for ever; see test_relay.py",
    "lykke consume": "needs streams that a relay fills; see test_consume.py",
    "lykke groups": "needs them too; see test_groups.py",
    "--watch": "prints nothing while nothing changes; see test_channels.py",
}


@pytest.mark.parametrize("page", [p for p in (README, *DOCS) if commands(p)], ids=name)
def test_the_commands_work_beside_the_demo(
    page: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    script = tmp_path / "complete-a-task.sh"
    script.write_text(f"#!/bin/sh\n{sys.executable} -m lykke_cli record {USER} TASK_COMPLETED\n")
    script.chmod(0o700)
    with LykkeProcess("demo", "--keep") as demo:
        exports = demo.line() + demo.line()
        env = dict(re.findall(r"export (\w+)=(\S+)", exports.decode()))
        for command in commands(page):
            if any(part in command for part in ELSEWHERE):
                continue
            words = words_of(command)
            if words[0] == "serve":
                with LykkeProcess(*words, "--port", "0", env=env) as process:
                    process.wait_for("serving")
                    assert process.stop().status == ExitCode.INTERRUPTED
            elif words[0] == "tail" and not {"--count", "--no-follow"} & set(words):
                with LykkeProcess(*words, env=env) as process:
                    process.wait_for("following")
                    assert process.stop().status == ExitCode.INTERRUPTED
            else:
                result = run_lykke(*words, env=env, input=b'{"n": 1}\n')
                expected = {ExitCode.DONE}
                if "--require-subscribers" in words or words[0] == "doctor":
                    expected.add(ExitCode.EXPECTATION)  # nobody is there; SQLite is no server
                assert result.status in expected, f"{command}: {result.stderr}"


def headings(page: Path) -> set[str]:
    """The anchors that a page has."""
    found = re.findall(r"^#+ (.*)", page.read_text("utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in found}


@pytest.mark.parametrize("page", [README, *DOCS], ids=name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)\s]+)\)", page.read_text("utf-8")):
        if "://" not in link:
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in headings(target), link


def test_every_page_is_found_from_the_first_one() -> None:
    index = (ROOT / "docs" / "README.md").read_text("utf-8")
    assert not [page.name for page in DOCS if page.name != "README.md" and page.name not in index]


@pytest.mark.parametrize("page", [README, *DOCS], ids=name)
def test_every_test_that_is_named_exists(page: Path) -> None:
    for path, name in re.findall(r"`(tests/[\w/.]+)(?:::(\w+))?`", page.read_text("utf-8")):
        assert (ROOT / path).exists()
        assert not name or f"def {name}(" in (ROOT / path).read_text("utf-8")
