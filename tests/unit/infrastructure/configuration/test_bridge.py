"""Where a bridge is: one spelling for each, and no secret in a URL."""

import uuid
from pathlib import Path

import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.infrastructure.configuration.bridge import BridgeSettings, parse_bridge_url
from lykke_cli.infrastructure.configuration.profiles import Profile, Profiles

USER = uuid.UUID(int=7)


@pytest.mark.parametrize(
    ("spelt", "url"),
    [
        ("https://lykke.example", "https://lykke.example"),
        ("HTTPS://Lykke.Example:443/", "https://lykke.example"),
        ("wss://lykke.example./", "https://lykke.example"),
        ("https://lykke.example:8443", "https://lykke.example:8443"),
        ("https://lykke.example/a//b/./c/", "https://lykke.example/a/b/c"),
        ("https://lykke.example/%61%2Fb", "https://lykke.example/a%2Fb"),
        ("https://b\u00fccher.example", "https://xn--bcher-kva.example"),
        ("https://[::0:1]:443/x", "https://[::1]/x"),
        ("ws://127.0.0.1:80", "http://127.0.0.1"),
        ("http://localhost:8000/", "http://localhost:8000"),
        ("http://lykke.example?plaintext=yes", "http://lykke.example"),
        (" https://lykke.example ", "https://lykke.example"),
    ],
)
def test_a_bridge_has_one_name_however_it_is_spelt(spelt: str, url: str) -> None:
    assert parse_bridge_url(spelt).url == url


def test_users_are_followed_below_the_prefix_with_the_filters_in_the_query() -> None:
    address = parse_bridge_url("https://lykke.example/prefix")
    url = address.socket_url(USER, [("grep", "a b&c"), ("exclude", "TASK_*")])
    assert url == f"wss://lykke.example/prefix/ws/{USER}?grep=a%20b%26c&exclude=TASK_%2A"
    assert parse_bridge_url("ws://[::1]:8000").socket_url(USER, []) == f"ws://[::1]:8000/ws/{USER}"


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "malformed"),
        ("lykke.example", "malformed"),
        ("ftp://lykke.example", "malformed"),
        ("https://", "malformed"),
        ("https://[::1", "malformed"),
        ("https://a b/", "no host"),
        ("https://\x1b[31m/", "malformed|no host"),
        ("https://lykke.example:0", "port"),
        ("https://lykke.example:99999", "port"),
        ("https://lykke.example/../x", "leads nowhere"),
        ("https://sesame@lykke.example", "LYKKE_TOKEN"),
        ("https://u:sesame@lykke.example", "LYKKE_TOKEN"),
        ("https://lykke.example/#token=sesame", "LYKKE_TOKEN"),
        ("https://lykke.example/?token=sesame", "LYKKE_TOKEN"),
        ("https://lykke.example/?sesame=1", "not understood"),
        ("https://lykke.example/?ssl_ca_certs=/nonexistent", "ssl_ca_certs names cannot be read"),
        ("http://localhost/?ssl_ca_certs=/etc/passwd", "https:// only"),
        ("http://lykke.example", "has no TLS"),
        ("ws://192.0.2.1:8000", "has no TLS"),
        ("http://localhost.example", "has no TLS"),
    ],
)
def test_what_leads_to_no_bridge_is_refused_with_the_remedy(url: str, said: str) -> None:
    with pytest.raises(UsageMistake, match=said) as caught:
        parse_bridge_url(url)
    assert "sesame@" not in str(caught.value) and "=sesame" not in str(caught.value)


def a_profile(text: str, folder: Path) -> Profile:
    file = folder / "config.toml"
    file.write_text(f"[profiles.desk]\n{text}")
    return Profiles.read(file).get("desk", "--profile")


def token(environ: dict[str, str], profile: Profile | None, url: str | None) -> str | None:
    return BridgeSettings.resolve(environ, profile, url).read_token()


def test_the_token_is_that_of_the_environment_and_read_anew_each_time(tmp_path: Path) -> None:
    url, file = "https://lykke.example", tmp_path / "token"
    assert token({}, None, url) is None
    assert token({"LYKKE_TOKEN": "sesame"}, None, url) == "sesame"
    file.write_text("first\n")
    file.chmod(0o600)
    settings = BridgeSettings.resolve({"LYKKE_TOKEN_FILE": str(file)}, None, url)
    assert settings.notices == ()
    assert settings.read_token() == "first"
    file.write_text("second\n")
    assert settings.read_token() == "second"


def test_a_profile_s_token_is_for_the_profile_s_bridge_alone(tmp_path: Path) -> None:
    text = 'bridge_url = "https://lykke.example:443/"\nbridge_token = "${SECRET}"'
    profile = a_profile(text, tmp_path)
    environ = {"SECRET": "of-the-profile", "LYKKE_TOKEN": "of-the-environment"}
    assert token(environ, profile, None) == "of-the-profile"
    assert token(environ, profile, "wss://lykke.example") == "of-the-profile"
    assert token(environ, profile, "https://other.example") == "of-the-environment"


def test_a_token_that_others_may_read_is_told_of(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("sesame")
    (tmp_path / "token").chmod(0o644)
    profile = a_profile('bridge_url = "https://x"\nbridge_token_file = "token"', tmp_path)
    [notice] = BridgeSettings.resolve({}, profile).notices
    assert "chmod 600" in notice and "sesame" not in notice


@pytest.mark.parametrize("text", ["two words", "line\nbreak", "\x1b[31m", "caf\u00e9", "x" * 9_000])
def test_what_can_be_no_token_is_refused_without_being_shown(text: str) -> None:
    with pytest.raises(UsageMistake, match="LYKKE_TOKEN") as caught:
        BridgeSettings.resolve({"LYKKE_TOKEN": text}, None, "https://lykke.example")
    assert text not in str(caught.value)


def test_neither_settings_nor_their_text_show_a_token() -> None:
    settings = BridgeSettings.resolve({"LYKKE_TOKEN": "sesame"}, None, "https://lykke.example")
    assert "sesame" not in repr(settings)
