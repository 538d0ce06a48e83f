"""Foreign text made harmless for a terminal.

A channel, a row, a file name or a server's error may hold sequences that move the cursor, set the
window's title, turn the writing direction round or cannot be seen. They are shown, not obeyed.
"""

import re

# Control characters, then what is invisible or turns the direction of writing. Variation selectors
# stay: text needs them, and they change nothing but the look of the character before them.
_UNSEEN = (
    "\\x7f-\\x9f\\xad"  # DEL, C1 controls, soft hyphen
    "\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180e"  # joiners, marks, fillers
    "\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f"  # zero width, separators, bidirectional
    "\\u3164\\ufeff\\uffa0\\ufff0-\\ufffb\\ufffe\\uffff"  # fillers, BOM, interlinear, noncharacters
    "\\ud800-\\udfff"  # lone surrogates
    "\\U000110bd\\U000110cd\\U00013430-\\U0001343f\\U0001bca0-\\U0001bca3\\U0001d173-\\U0001d17a"
    "\\U000e0000-\\U000e00ff\\U000e01f0-\\U000e0fff"  # tags and what is reserved beside them
)
_DANGEROUS = re.compile(f"[\\x00-\\x1f{_UNSEEN}]")
_DANGEROUS_IN_JSON = re.compile(f"[\\x00-\\x08\\x0b-\\x1f{_UNSEEN}]")  # tab and newline part tokens
_ASCII_CONTROL = re.compile(rb"[\x00-\x08\x0b-\x1f\x7f]")
_NAMED = {"\t": "\\t", "\n": "\\n", "\r": "\\r"}


def visible(text: str) -> str:
    """`text` on one line, with each dangerous or invisible character shown as its escape."""
    if text.isascii() and text.isprintable():
        return text
    return _DANGEROUS.sub(_shown, text)


def json_for_terminal(line: bytes) -> bytes:
    """The same JSON, its dangerous characters written as `\\uXXXX`.

    In valid JSON they stand inside strings only, so the value does not change. Line feeds and tabs
    between the tokens stay, so several lines can be given at once. Returns `line` itself when there
    is nothing to do.
    """
    if line.isascii():
        return line if _ASCII_CONTROL.search(line) is None else _escape(line.decode()).encode()
    try:
        text = line.decode()
    except UnicodeDecodeError:
        return _escape(line.decode("utf-8", "replace")).encode()
    escaped = _escape(text)
    return line if escaped == text else escaped.encode()


def _shown(match: re.Match[str]) -> str:
    character = match[0]
    code = ord(character)
    if character in _NAMED:
        return _NAMED[character]
    if code <= 0xFF:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"


def _escape(json: str) -> str:
    return _DANGEROUS_IN_JSON.sub(_json_escape, json)


def _json_escape(match: re.Match[str]) -> str:
    if match[0] == "\r":  # between tokens; inside a string JSON does not allow it
        return " "
    units = match[0].encode("utf-16-be", "surrogatepass")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))
