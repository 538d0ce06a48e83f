"""The page at `/`: files that are read once, and sent as they are or compressed.

They are the same for everybody, and hold nothing of anybody: what the page shows it asks for, with
its token. Only their names are looked up, so no path leads elsewhere.
"""

import gzip
from hashlib import sha256
from pathlib import Path

import msgspec
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

FOLDER = Path(__file__).parent / "page"
_TYPES = {
    ".css": "text/css; charset=utf-8",
    ".html": "text/html; charset=utf-8",
    ".js": "text/javascript; charset=utf-8",
}
POLICY = "; ".join(
    (
        "default-src 'none'",
        "script-src 'self'",
        "style-src 'self'",
        "connect-src 'self'",
        "require-trusted-types-for 'script'",
        "trusted-types 'none'",
        "base-uri 'none'",
        "form-action 'none'",
        "frame-ancestors 'none'",
    )
)
"""Nothing from elsewhere, nothing inline, no text that becomes a script; no frame around it."""
_HEADERS = {
    "Cache-Control": "no-cache",  # kept, but asked after each time: a new release is seen at once
    "Content-Security-Policy": POLICY,
    "Cross-Origin-Opener-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "Vary": "Accept-Encoding",
    "X-Frame-Options": "DENY",
}


class _File(msgspec.Struct, frozen=True):
    text: bytes
    compressed: bytes
    media_type: str
    tag: str

    @classmethod
    def read(cls, path: Path) -> "_File":
        text = path.read_bytes()
        tag = f'W/"{sha256(text).hexdigest()[:32]}"'  # of both forms
        return cls(text, gzip.compress(text, mtime=0), _TYPES[path.suffix], tag)


def page_routes() -> list[Route]:
    """The routes of the page, from where the bridge is mounted."""
    files = {
        path.relative_to(FOLDER).as_posix(): _File.read(path)
        for path in FOLDER.rglob("*")
        if path.suffix in _TYPES
    }

    async def send(request: Request) -> Response:
        file = files.get(request.path_params.get("name", "index.html"))
        if file is None:
            raise HTTPException(404)
        headers = _HEADERS | {"ETag": file.tag}
        known = request.headers.get("If-None-Match", "")
        if file.tag in (tag.strip() for tag in known.split(",")):
            return Response(status_code=304, headers=headers)
        text = file.text
        if "gzip" in request.headers.get("Accept-Encoding", ""):
            text, headers["Content-Encoding"] = file.compressed, "gzip"
        return Response(text, headers=headers, media_type=file.media_type)

    return [Route("/", send), Route("/page/{name:path}", send)]
