"""The rows of the page's table: each entry once, where it belongs, and never too many."""

from typing import Any

from tests.page_modules import result_of

MAKE = """
    const entry = (time, id = time) =>
        ({ id: String(id), occurred_at: `2026-01-31T${time}Z` });
    const many = (from, to) => Array.from({ length: to - from }, (_, i) => {
        const ms = Date.UTC(2026, 0, 1) + (from + i) * 1000;
        const text = new Date(ms).toISOString().replace("Z", "000Z");
        return { id: String(from + i).padStart(9, "0"), occurred_at: text };
    });
    const told = (rows) => rows.list.map((row) =>
        row.rule ?? (row.message ? "message" : `${row.id} ${row.source}`));
    const rows = new m.Rows();
"""


def rows(body: str) -> Any:
    return result_of("rows.js", MAKE + body)


def test_entries_stand_in_the_order_of_their_time_below_their_day() -> None:
    shown = rows("""
        rows.add([entry("10:00:00.000000", "b"), entry("10:00:00.000000", "a")], "history");
        rows.add([{ id: "c", occurred_at: "2026-02-01T00:00:00.000000Z" }], "live");
        rows.add([entry("10:00:01.000000", "d")], "recovered");
        return told(rows);
    """)
    assert shown == ["day", "a history", "b history", "d recovered", "day", "c live"]


def test_an_entry_that_comes_again_is_there_once() -> None:
    body = 'const one = entry("10:00:00.000000", "a");'
    added = rows(body + 'return [rows.add([one], "history"), rows.add([one, one], "live")];')
    assert added == [1, 0]


def test_a_live_entry_that_is_long_behind_others_is_marked_and_a_little_is_usual() -> None:
    shown = rows("""
        rows.hasOlder = false;
        rows.add([entry("10:00:10.000000", "a")], "live");
        rows.add([entry("10:00:09.900000", "b"), entry("10:00:04.000000", "c")], "live");
        return told(rows);
    """)
    assert shown == ["day", "c recovered", "b live", "a live"]


def test_what_is_older_than_the_window_comes_last_for_others_are_missing_between() -> None:
    shown = rows("""
        rows.add([entry("10:00:10.000000", "a"), entry("10:00:11.000000", "b")], "history");
        rows.add([entry("09:00:00.000000", "late")], "live");
        rows.add([entry("10:00:12.000000", "c")], "live");
        const late = rows.list.findIndex((row) => row.entry?.id === "late");
        rows.prepend([entry("09:00:00.000000", "late"), entry("09:30:00.000000", "p")]);
        return [late, rows.list.map((row) => row.rule ?? row.entry.id), rows.oldest()];
    """)
    assert shown == [
        3,
        ["day", "p", "a", "b", "late", "c"],
        "2026-01-31T09:30:00.000000Z",
    ]


def test_a_page_of_history_joins_the_day_that_is_there() -> None:
    shown = rows("""
        rows.add([entry("10:00:00.000000", "c")], "live");
        rows.prepend([{ id: "a", occurred_at: "2026-01-30T23:00:00.000000Z" },
            entry("09:00:00.000000", "b"), entry("10:00:00.000000", "c")]);
        rows.append([entry("10:00:00.000000", "c"), entry("11:00:00.000000", "d")]);
        return told(rows);
    """)
    assert shown == ["day", "a history", "day", "b history", "c live", "d history"]


def test_an_outage_stands_between_what_came_before_and_what_was_recovered() -> None:
    shown = rows("""
        rows.add([entry("10:00:00.000000", "a")], "live");
        rows.addLast({ rule: "outage" }, "2026-01-31T10:00:05.000000Z");
        rows.add([entry("10:00:01.000000", "b")], "recovered");
        rows.addLast({ message: {} }, "2026-01-31T10:00:06.000000Z");
        rows.add([entry("10:00:07.000000", "c")], "live");
        return told(rows);
    """)
    assert shown == ["day", "a live", "outage", "b recovered", "message", "c live"]


def test_the_oldest_rows_are_dropped_while_the_newest_are_followed() -> None:
    shown = rows("""
        for (let n = 0; n < 50; n++) {
            rows.add(many(n * 1000, (n + 1) * 1000), "live");
            rows.dropOldest();
        }
        return [rows.list.length <= m.MOST + 1001, rows.list[0].rule, rows.list.at(-1).id,
            rows.hasOlder, rows.add(many(0, 1), "live")];
    """)
    assert shown == [True, "day", "000049999", True, 1]


def test_the_newest_rows_are_dropped_while_older_ones_are_read() -> None:
    shown = rows("""
        for (let n = 60; n > 0; n--) rows.prepend(many((n - 1) * 500, n * 500));
        const last = rows.newest();
        rows.append(many(0, 30_000).filter((e) => e.occurred_at >= last).slice(0, 500));
        const ids = rows.list.filter((row) => row.entry).map((row) => Number(row.id));
        return [rows.isAttached, rows.list.length <= m.MOST + 1001,
            ids.every((id, i) => i === 0 || id === ids[i - 1] + 1)];
    """)
    assert shown == [False, True, True]


def test_a_row_is_found_by_its_place() -> None:
    shown = rows("""
        rows.add(many(0, 5000), "live");
        return rows.list.every((row, index) => rows.indexOf(row) === index);
    """)
    assert shown is True


def test_an_entry_without_a_time_of_the_calendar_comes_first() -> None:
    shown = rows("""
        rows.prepend([{ id: "x", unreadable: "no time" }, entry("10:00:00.000000", "a")]);
        return [rows.list.map((row) => row.rule ?? row.id), rows.oldest()];
    """)
    assert shown == [["day", "x", "day", "a"], "2026-01-31T10:00:00.000000Z"]
