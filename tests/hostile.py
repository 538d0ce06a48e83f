"""Strings made to harm a terminal, a table, a spreadsheet or a query."""

CONTROLS = [chr(code) for code in (*range(0x20), *range(0x7F, 0xA0))]
SEQUENCES = [
    *("\x1b[?1003h", "\x1b[?2004h", "\x1b[?1h", "\x1b[?5h", "\x1b[4h", "\x1b[3;5r", "\x1b[5i"),
    *("\x1b]10;red\x07", "\x1b]11;blue\x07", "\x1b]7;file:///etc\x07", "\x1bkname\x1b\\"),
    *("\x1b[2J", "\x1b[31m", "\x1b[1;1H", "\x1b[?1049h", "\x1b[?25l", "\x1b[6n", "\x1b[20t"),
    *("\x1b]0;title\x07", "\x1b]2;title\x1b\\", "\x1b]52;c;ZXZpbA==\x07", "\x1b]4;1;red\x07"),
    *("\x1b]8;;http://evil/\x07click\x1b]8;;\x07", "\x1b]1337;File=:AA==\x07", "\x1b]9;hi\x07"),
    *("\x1bP$q\x1b\\", "\x1bP+q544e\x1b\\", "\x1b_G\x1b\\", "\x1b^x\x1b\\", "\x1bXx\x1b\\"),
    *("\x1bc", "\x1b7", "\x1b8", "\x1b(0", "\x1b#8", "\x1b>", "\x1b=", "\x1bM", "\x1bE"),
    *("\x9b31m", "\x9d0;t\x9c", "\x90q\x9c", "\x08" * 9),
]
UNSEEN = [
    chr(code)
    for code in (
        *(0xAD, 0x34F, 0x61C, 0x115F, 0x180E, 0x3164, 0xFEFF, 0xFFA0, 0xFFF9, 0xFFFE, 0xE0001),
        *range(0x200B, 0x2010),
        *range(0x2028, 0x202F),
        *range(0x2060, 0x2070),
        *range(0xE0020, 0xE0040),
    )
]
MARKUP = ["[red]x[/red]", "[/oops]", "[link=file:///]x[/link]", ":warning:", "[bold", "\\[x]"]
FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "=cmd|' /C calc'!A0", "=HYPERLINK(1)"]
INJECTIONS = ["'; DROP TABLE audit_logs; --", "' OR 1=1", "%s", "{0}", "{id}", "$1", ":user", "\\"]
WIDE = ["漢字" * 30, "👩‍👩‍👧‍👦" * 9, "שלום", "مرحبا", "é" * 50, "e" + "\u0301" * 60, "\ufe0f" * 9]
CORPUS = [*CONTROLS, *SEQUENCES, *UNSEEN, *MARKUP, *FORMULAS, *INJECTIONS, *WIDE]

OBEYED = frozenset([*CONTROLS, *UNSEEN])
"""Characters that a terminal obeys or does not show."""
