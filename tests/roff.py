"""A manual page as `man` shows it: a reader of what our pages use of roff, which takes no more."""

import re
import shlex
from collections.abc import Iterator

_ESCAPES = {r"\-": "-", r"\e": "\\", r"\(aq": "'", r"\(ga": "`", r"\(ha": "^", r"\(ti": "~"}
_INVISIBLE = {r"\&", r"\fB", r"\fI", r"\fR"}
_TYPESET = str.maketrans("-'`^~", "\N{HYPHEN}\u2019\u2018\u02c6\u02dc")  # unless escaped
_PIECES = re.compile(r"\\\(..|\\f.|\\.?|[^\\]+", re.DOTALL)


class Fault(ValueError):
    """A line that roff would refuse, warn of, or not show."""


def read(page: str) -> Iterator[tuple[str, str]]:
    """Each line's kind (TH, SH, SS, tag, text, example) and how it is shown; raises Fault."""
    kind, filled = "text", True
    for line in page.splitlines():
        if not line or line.startswith("'") or line != line.strip():
            raise Fault(line)
        if not line.startswith("."):
            yield kind if filled else "example", _shown(line)
            kind = "text"
            continue
        name, _, rest = line[1:].partition(" ")
        if kind == "tag" or bool(rest) != (name in {"TH", "SH", "SS"}):
            raise Fault(line)
        if name in {"nf", "fi"} and filled == (name == "nf"):
            filled = name == "fi"
        elif name == "TH":
            yield name, "\t".join(_shown(word) for word in shlex.split(rest.replace("\\", "\\\\")))
        elif name in {"SH", "SS"} and filled:
            yield name, _shown(rest)
        elif name in {"TP", "PP"} and filled:
            kind = "tag" if name == "TP" else "text"
        else:
            raise Fault(line)
    if kind == "tag" or not filled:
        raise Fault("the page ends within something")


def _shown(line: str) -> str:
    shown, font = "", r"\fR"
    for piece in _PIECES.findall(line):
        if piece in _INVISIBLE:
            font = piece if piece.startswith(r"\f") else font
        elif piece.startswith("\\"):
            if piece not in _ESCAPES:
                raise Fault(line)
            shown += _ESCAPES[piece]
        else:
            shown += piece.translate(_TYPESET)
    if font != r"\fR":
        raise Fault(line)
    return shown
