"""SVG rendered as PNG, by the library of the extra `png` and with a font of our own."""

import re
import struct
import zlib
from importlib.util import find_spec
from pathlib import Path

from lykke_cli.application.errors import UsageMistake

ZOOM = 2.0  # pixels for one of the SVG's
_HEADER = 33  # bytes: the signature and the first chunk, IHDR, after which others may stand
_FONTS = Path(__file__).with_name("fonts")  # DejaVu Sans, which the SVG names first
# Latin, Greek, Cyrillic and punctuation: our font alone draws them, the same on every machine.
_OUR_FONT_HAS = re.compile(r"[\n -\u052f\u2010-\u2027]*")


def require_png() -> None:
    """Raises UsageMistake when the library is not installed."""
    if find_spec("resvg_py") is None:
        raise UsageMistake("PNG needs a library: pip install resvg-py (SVG needs none).")


def render_png(svg: str, *, comment: str) -> bytes:
    """The picture on a white ground, with `comment` (ASCII) in it.

    What our font lacks, such as Chinese, is drawn with one of the machine's, or as boxes.
    """
    from resvg_py import svg_to_bytes

    picture = bytes(
        svg_to_bytes(
            svg_string=svg,
            zoom=ZOOM,
            background="#ffffff",
            font_files=[str(path) for path in sorted(_FONTS.glob("*.ttf"))],
            skip_system_fonts=_OUR_FONT_HAS.fullmatch(svg) is not None,
        )
    )
    return picture[:_HEADER] + _text_chunk(comment) + picture[_HEADER:]


def _text_chunk(comment: str) -> bytes:
    data = b"tEXtComment\0" + comment.encode("ascii")
    return struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))
