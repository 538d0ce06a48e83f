"""Database URLs: read, shown without secrets, and refused without repeating them."""

import sys
import uuid
from pathlib import Path
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import trustme

from lykke_cli.application.errors import UsageMistake
from lykke_cli.cli.exit_codes import ExitCode
from lykke_cli.infrastructure.database.urls import (
    asyncpg_dsn,
    display_url,
    engine_arguments,
    is_sqlite,
    sqlite_path,
)
from tests.cli_process import call_lykke

SECRET = "s3cr3t"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"postgresql://ann:{SECRET}@db.example:6543/app", "postgresql://ann@db.example:6543/app"),
        (f"postgres://ann:{SECRET}@db/app", "postgresql://ann@db:5432/app"),
        (f"postgresql+asyncpg://ann:{SECRET}@db/app", "postgresql://ann@db:5432/app"),
        (f"postgresql://db/app?user=ann&password={SECRET}", "postgresql://ann@db:5432/app"),
        (f"postgresql://ann@db/app?sslpassword={SECRET}", "postgresql://ann@db:5432/app"),
        (f"postgresql://ann:{SECRET}@[::1]:5433/app", "postgresql://ann@[::1]:5433/app"),
        (f"postgresql://ann:{SECRET}@[::1]/app", "postgresql://ann@[::1]:5432/app"),
        (f"postgresql://a:{SECRET}@h1:1,h2:2/app", "postgresql://a@h1:1,h2:2/app"),
        ("postgresql:///app?host=/run/pg&port=5433", "postgresql:///app?host=/run/pg&port=5433"),
        (f"postgresql://a:{SECRET}@/app?host=/run/pg", "postgresql://a@/app?host=/run/pg"),
        (f"postgresql://a%40b:{SECRET}%40%2F%23@db/app", "postgresql://a%40b@db:5432/app"),
        (f"postgresql://ann:{SECRET}@x@db/app", "postgresql://ann@db:5432/app"),
        ("postgresql://db", "postgresql://db:5432/"),
        ("sqlite:///var/audit.db", "sqlite:///var/audit.db"),
        ("sqlite+aiosqlite:////var/audit.db?timeout=5", "sqlite:////var/audit.db"),
    ],
)
def test_a_url_is_shown_without_its_secrets(url: str, shown: str) -> None:
    assert display_url(url) == shown


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        f"mysql://ann:{SECRET}@db/app",
        f"postgresql+psycopg://ann:{SECRET}@db/app",
        f"postgresql:ann:{SECRET}@db/app",
        f"postgresql://ann:{SECRET}@db:port/app",
        f"postgresql://ann:1{SECRET}/x@db/app",
        f"postgresql://ann:1/{SECRET}@db/app",
        f"postgresql://ann:1#{SECRET}@db/app",
        f"postgresql://ann:1?{SECRET}@db/app",
        f"postgresql://ann:1?a={SECRET}@db/app#x",
        f"postgresql://ann:{SECRET}@[::1/app",
        "sqlite://",
        "sqlite:///",
        "sqlite:///:memory:",
        "sqlite:audit.db",
        "sqlite://audit.db",
    ],
)
def test_a_malformed_url_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(UsageMistake) as caught:
        display_url(url)
    assert SECRET not in str(caught.value)
    assert "postgresql://" in str(caught.value) or "sqlite:///" in str(caught.value)
    assert caught.value.__cause__ is None


@pytest.mark.parametrize("host", ["a..b", ".a", "a" * 64, "é..b", "a,b..c"])
@pytest.mark.parametrize("where", ["@{}/app", "@/app?host={}"])
def test_a_host_name_that_is_none_is_refused(host: str, where: str) -> None:
    with pytest.raises(UsageMistake, match="host name") as error:
        display_url(f"postgresql://ann:{SECRET}{where.format(host)}")
    assert SECRET not in str(error.value)


@pytest.mark.parametrize(
    "rest",
    [
        *("@h:99999/app", "@h:0/app", "@[::1]:99999/app", "@h,i:99999/app", "@h:" + "9" * 5_000),
        *("@h/app?port=99999", "@h/app?port=5432,x", "@/app?host=h:99999"),
    ],
)
def test_a_port_that_is_none_is_told_of(rest: str) -> None:
    url = f"postgresql://ann:{SECRET}{rest}"
    result = call_lykke("backfill", uuid.uuid4(), "--since", "1h", env={"DATABASE_URL": url})
    assert (result.status, result.stdout) == (ExitCode.USAGE, b"")
    [line] = result.stderr.splitlines()
    assert "a port that is out of range: it is a number from 1 to 65535" in line
    assert SECRET not in line


@pytest.mark.parametrize("host", ["%2Frun%2F" + "a" * 64, "db.", "a_b", "é.example", "[::1]", ""])
def test_odd_hosts_are_taken(host: str) -> None:
    assert asyncpg_dsn(f"postgresql://ann@{host}/app")


def test_the_dsn_keeps_what_asyncpg_understands_and_drops_the_rest(tmp_path: Path) -> None:
    authority = tmp_path / "ca .pem"
    authority.write_bytes(trustme.CA().cert_pem.bytes())
    dsn = asyncpg_dsn(
        "postgresql+asyncpg://ann:p%40%2F%3A%25@db:6543/my%20app?ssl=require&connect_timeout=3"
        f"&channel_binding=require&sslrootcert={quote(str(authority))}"
        "&prepared_statement_cache_size=0&x="
    )
    parts = urlsplit(dsn)
    assert dsn.startswith("postgresql://ann:p%40%2F%3A%25@db:6543/my%20app?")
    assert parse_qs(parts.query) == {
        "sslmode": ["require"],
        "sslrootcert": [str(authority)],
        "application_name": ["lykke"],
    }


def test_the_dsn_keeps_an_application_name_and_a_socket() -> None:
    dsn = asyncpg_dsn("postgres:///app?host=/run/pg&application_name=mine")
    assert parse_qs(urlsplit(dsn).query) == {"host": ["/run/pg"], "application_name": ["mine"]}


@pytest.mark.parametrize(
    ("url", "path"),
    [
        ("sqlite:///audit.db", "audit.db"),
        ("sqlite:////var/audit.db", "/var/audit.db"),
        ("sqlite+aiosqlite:///a%20b/x.db?timeout=3", "a b/x.db"),
        ("sqlite:///a b/x#y.db", "a b/x#y.db"),
    ],
)
def test_the_file_of_a_sqlite_url(url: str, path: str) -> None:
    assert sqlite_path(url) == Path(path)


def test_each_kind_is_refused_where_the_other_is_needed() -> None:
    with pytest.raises(UsageMistake):
        sqlite_path("postgresql://db/app")
    with pytest.raises(UsageMistake):
        asyncpg_dsn("sqlite:///audit.db")
    assert is_sqlite("SQLITE:///x")


def test_the_engines_url_holds_no_password() -> None:
    target, arguments = engine_arguments(
        f"postgresql://ann:{SECRET}@db/app?connect_timeout=3&prepared_statement_cache_size=0"
    )
    assert target == "postgresql+asyncpg://"
    assert SECRET in arguments["dsn"]
    assert (arguments["timeout"], arguments["prepared_statement_cache_size"]) == (3.0, 0)
    with pytest.raises(UsageMistake):
        engine_arguments("postgresql://db/app?connect_timeout=soon")


async def test_a_sqlite_engine_opens_the_very_file(tmp_path: Path) -> None:
    from sqlalchemy import text

    from lykke_cli.infrastructure.database.engine import make_engine
    from lykke_cli.infrastructure.sqlite.schema import create_sqlite_table

    path = tmp_path / "a%41 b#ø?.db"
    create_sqlite_table(path)
    engine = make_engine(f"sqlite:///{str(path).replace('%', '%25').replace('?', '%3F')}")
    async with engine.connect() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM audit_logs"))).scalar() == 0
    await engine.dispose()


def test_reading_urls_imports_no_driver() -> None:
    import subprocess

    code = (
        "import sys, lykke_cli.infrastructure.database.urls, "
        "lykke_cli.infrastructure.database.errors, lykke_cli.infrastructure.sqlite.schema;"
        "print([m for m in ('sqlalchemy', 'asyncpg', 'aiosqlite') if m in sys.modules])"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert result.stdout.strip() == "[]", result.stderr
