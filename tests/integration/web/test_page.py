"""The page is sent whole, compressed, only once, and with a policy that lets nothing else in."""

import gzip

import pytest

from lykke_cli.application.errors import UsageMistake
from lykke_cli.web import make_app
from lykke_cli.web.page import FOLDER
from tests.bridges import get, served
from tests.integration.web.conftest import Make

INDEX = (FOLDER / "index.html").read_bytes()
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "require-trusted-types-for 'script'"
)


async def test_it_is_at_the_root_and_its_parts_below(make: Make) -> None:
    async with served(make(page=True)) as place:
        for path in ("/", "/page/index.html"):
            answer = await get(place, path)
            assert answer.status == 200 and answer.body == INDEX
            assert answer.headers["content-type"] == "text/html; charset=utf-8"
            assert answer.headers["content-security-policy"].startswith(POLICY)
            assert answer.headers["x-content-type-options"] == "nosniff"
            assert answer.headers["referrer-policy"] == "no-referrer"
            assert "set-cookie" not in answer.headers


async def test_a_browser_that_has_it_is_told_so(make: Make) -> None:
    async with served(make(page=True)) as place:
        zipped = await get(place, "/", {"Accept-Encoding": "gzip"})
        assert gzip.decompress(zipped.body) == INDEX
        assert zipped.headers["vary"] == "Origin, Accept-Encoding"
        tag = zipped.headers["etag"]
        for known in (tag, f'"other", {tag}'):
            again = await get(place, "/", {"If-None-Match": known})
            assert (again.status, again.headers["etag"]) == (304, tag)
        assert (await get(place, "/", {"If-None-Match": '"other"'})).status == 200


@pytest.mark.parametrize(
    "path",
    ["/page/none.js", "/page/../page.py", "/page/%2e%2e/page.py", "/page//etc/passwd", "/page/"],
)
async def test_no_path_leads_out_of_it(make: Make, path: str) -> None:
    async with served(make(page=True)) as place:
        assert (await get(place, path)).lines[0]["code"] == "not_found"


async def test_it_is_only_there_where_it_is_wanted(place: str) -> None:
    for path in ("/", "/page/index.html"):
        assert (await get(place, path)).status == 404


async def test_another_site_can_neither_frame_nor_read_it(make: Make) -> None:
    async with served(make(page=True)) as place:
        answer = await get(place, "/")
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["cross-origin-resource-policy"] == "same-origin"
        other = await get(place, "/", {"Origin": "https://elsewhere.example"})
        assert other.status == 403


def test_without_a_database_there_is_none(redis_url: str) -> None:
    with pytest.raises(UsageMistake, match="page looks up users in the database"):
        make_app(redis_url=redis_url, hub=object(), gateway=object(), page=True)  # type: ignore[arg-type]
