"""Packing what was put aside: at every moment the plain file or the packed one is there, whole."""

import gzip
import os
import re
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

from lykke_cli.infrastructure.files.written_entries import beside

_READ_SIZE = 1 << 20  # bytes
_GZIP = b"\x1f\x8b"
_ASIDE = re.compile(r"\.\d{8}T\d{6}Z-\d{3,}")


def packed(plain: Path) -> Path:
    """The name of `plain` once it is packed."""
    return plain.with_name(plain.name + ".gz")


def pack(plain: Path) -> None:
    """Put `plain.gz` in its place, which replaces one that is there.

    Raises OSError, also where `plain.gz.part` is there. `plain` is whole then, and stays.
    """
    unfinished = _unfinished(plain)
    with open(plain, "rb") as source, open(unfinished, "xb") as target:
        try:
            with gzip.GzipFile(plain.name, "wb", fileobj=target, mtime=0) as archive:
                shutil.copyfileobj(source, archive, _READ_SIZE)
            target.flush()
            os.fsync(target.fileno())
        except OSError:
            unfinished.unlink()  # it takes the room that there is none of
            raise
    os.rename(unfinished, packed(plain))
    _sync_folder(plain.parent)  # the packed one is there for good before the plain one goes
    plain.unlink()


def finish_packing(path: Path, tell: Callable[[str], None]) -> None:
    """Pack what `path` was put aside as and is not packed, after a run that was killed.

    Nobody else may be writing `path`. What cannot be packed stays as it is, and is told of.
    Raises OSError where it cannot be seen what there is.
    """
    for plain in list(_put_aside(path)):
        try:
            _remove_our_rest(_unfinished(plain))
            if not packed(plain).exists():
                pack(plain)
            elif _is_same(plain, packed(plain)):
                plain.unlink()
            else:
                tell(f"{plain.name} and {packed(plain).name} differ: both are left as they are")
        except OSError as error:
            tell(f"{plain.name} is not packed: {error.strerror}")


def _put_aside(path: Path) -> Iterator[Path]:
    for file in beside(path):
        if _ASIDE.fullmatch(file.name.removeprefix(path.name)):
            yield file


def _unfinished(plain: Path) -> Path:
    return plain.with_name(plain.name + ".gz.part")


def _remove_our_rest(unfinished: Path) -> None:
    """Remove what a killed run packed of it; what is no gzip file is somebody else's, and stays."""
    with suppress(FileNotFoundError):
        with open(unfinished, "rb") as file:
            start = file.read(len(_GZIP))
        if start in (b"", _GZIP):
            unfinished.unlink()


def _is_same(plain: Path, archive: Path) -> bool:
    try:
        with open(plain, "rb") as one, gzip.open(archive, "rb") as other:
            while block := one.read(_READ_SIZE):
                if other.read(len(block)) != block:
                    return False
            return not other.read(1)
    except (EOFError, zlib.error, gzip.BadGzipFile):
        return False


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
