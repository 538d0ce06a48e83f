"""What a cursor's witnesses are."""

from uuid import UUID

import pytest

from lykke_cli.application.gateways.history_protocol import Cursor
from lykke_cli.infrastructure.database.witnesses import Witnesses
from lykke_cli.infrastructure.sqlite.cursor import Unreadables, make_cursor, parse, vouched


def cursor(file: str, *positions: int) -> Cursor:
    rows = ((position, str(UUID(int=position))) for position in positions)
    return make_cursor(file, (), Witnesses().joined_by(rows), Unreadables())


@pytest.mark.parametrize(("file", "newest"), [("1", 7), ("2", 3)])
def test_rows_of_another_cursor_bear_witness_where_it_is_of_the_same_file(
    file: str, newest: int
) -> None:
    found = parse(vouched(cursor("1", 3), cursor(file, 5, 7)))
    assert found is not None and found.witnesses.newest == newest
