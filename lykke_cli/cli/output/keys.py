"""What is typed while a command runs: from bytes to what is asked for. Pure: it reads nothing."""

import codecs
from collections.abc import Iterator
from enum import Enum, auto

import msgspec

MOST_SOUGHT = 200  # characters
_ESCAPE = "\x1b"


class Key(Enum):
    PAUSE = auto()
    IN_FULL = auto()
    MARK = auto()
    HELP = auto()
    QUIT = auto()


class Typed(msgspec.Struct, frozen=True):
    """Something to seek is being typed; `text` is what there is of it, None: nothing any more."""

    text: str | None


class Seek(msgspec.Struct, frozen=True):
    """`text` is to be sought from now on; with an empty one nothing is."""

    text: str


Command = Key | Typed | Seek

LEGEND = (
    "space   pause, and go on",
    "/       mark a word from here on; / and Enter: no more",
    "e       the newest entry in full; again: the one before",
    "Enter   draw a line",
    "q       end",
)
_KEYS = {
    " ": Key.PAUSE,
    "e": Key.IN_FULL,
    "\r": Key.MARK,
    "\n": Key.MARK,
    "?": Key.HELP,
    "q": Key.QUIT,
}


class Keys:
    """Understands keys, one terminal's; what it does not know it passes over."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._typed: str | None = None

    def feed(self, data: bytes) -> Iterator[Command]:
        """What the next bytes ask for.

        A terminal sends a key's sequence in one go: an escape that nothing follows is the key Esc.
        """
        characters = iter(self._decoder.decode(data))
        for character in characters:
            if character == _ESCAPE:
                yield from self._escape(characters)
            elif self._typed is None:
                if character == "/":
                    yield self._typing("")
                elif character in _KEYS:
                    yield _KEYS[character]
            else:
                yield from self._type(self._typed, character)

    def _escape(self, characters: Iterator[str]) -> Iterator[Command]:
        kind = next(characters, "")
        if kind == "[":
            for character in characters:
                if "@" <= character <= "~":
                    return
        elif kind == "O":
            next(characters, "")
        elif not kind and self._typed is not None:
            yield self._typing(None)

    def _type(self, typed: str, character: str) -> Iterator[Command]:
        match character:
            case "\r" | "\n":
                self._typed = None
                yield Seek(typed)
            case "\x7f" | "\b":
                yield self._typing(typed[:-1] if typed else None)
            case "\x15":  # Ctrl-U
                yield self._typing("")
            case _ if character.isprintable():
                yield self._typing((typed + character)[:MOST_SOUGHT])

    def _typing(self, text: str | None) -> Typed:
        self._typed = text
        return Typed(text)
