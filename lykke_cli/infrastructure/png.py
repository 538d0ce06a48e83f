"""SVG rendered as PNG, by the library of the extra `png`."""

import struct
import zlib
from importlib.util import find_spec

from lykke_cli.application.errors import OutputFailed, UsageMistake

ZOOM = 2.0  # pixels for one of the SVG's
_HEADER = 33  # bytes: the signature and the first chunk, IHDR, after which others may stand


def require_png() -> None:
    """Raises UsageMistake when the library is not installed."""
    if find_spec("resvg_py") is None:
        raise UsageMistake("PNG needs a library: pip install 'lykke-cli[png]' (SVG needs none).")


def render_png(svg: str, *, comment: str) -> bytes:
    """The picture on a white ground, with `comment` (ASCII) in it.

    Raises OutputFailed where there is no font to draw with.
    """
    from resvg_py import svg_to_bytes

    shape = '<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">{}</svg>'
    letter = shape.format('<text x="2" y="15" style="font-family:sans-serif">x</text>')
    if svg_to_bytes(svg_string=letter) == svg_to_bytes(svg_string=shape.format("")):
        raise OutputFailed(
            "No font is installed here to draw a PNG with: install one, such as the package "
            "fonts-dejavu-core, or write an SVG."
        )
    picture = bytes(svg_to_bytes(svg_string=svg, zoom=ZOOM, background="#ffffff"))
    return picture[:_HEADER] + _text_chunk(comment) + picture[_HEADER:]


def _text_chunk(comment: str) -> bytes:
    data = b"tEXtComment\0" + comment.encode("ascii")
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
