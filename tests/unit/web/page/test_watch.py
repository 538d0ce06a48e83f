"""What the page shows of a bridge that does as the test says: each entry once, none hidden."""

from typing import Any

import pytest

from tests.page_modules import result_of

MAKE = """
    const A = "3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10";
    const B = "e3e70682-c209-4cac-a29f-6fbed82c07cd";
    const entry = (n, user = A, second = n) => ({
        id: String(n).padStart(6, "0"), user_id: user, activity_type: "T",
        occurred_at: new Date(Date.UTC(2026, 0, 1) + second * 1000).toISOString()
            .replace("Z", "000Z"),
    });
    const entries = (from, to, user) =>
        Array.from({ length: to - from }, (_, i) => entry(from + i, user));
    const sockets = [];
    const asked = []; // of the history
    let table = [];
    Math.random = () => 0; // it comes back at once
    globalThis.sessionStorage = { getItem: () => "a token" };
    globalThis.WebSocket = class {
        readyState = 1;
        sent = [];
        constructor(address) {
            this.address = String(address);
            sockets.push(this);
            queueMicrotask(() => this.onopen?.());
        }
        send(text) { this.sent.push(JSON.parse(text)); }
        close() {}
        async say(...frames) { // each as an event of its own
            for (const frame of frames) {
                this.onmessage?.({ data: JSON.stringify(frame) });
                await settle();
            }
        }
        async begin(data) {
            await this.say(
                { type: "subscribed", exact: true, recovered: true, cursor: null },
                { type: "auditlog_batch", data, cursor: "c" },
                { type: "caught_up", cursor: "c" },
            );
        }
    };
    globalThis.fetch = async (address) => {
        const query = address.searchParams;
        asked.push(Object.fromEntries(query));
        const user = address.pathname.split("/history/")[1];
        const [since, until] = [query.get("since") ?? "", query.get("until") ?? "3"];
        let found = table.filter(({ user_id: of, occurred_at: at }) =>
            (!user || of === user) && at >= since && at < until);
        if (query.get("limit")) found = found.slice(-query.get("limit"));
        if (query.get("first")) found = found.slice(0, query.get("first"));
        return { ok: true, text: async () => found.map((e) => JSON.stringify(e) + "\\n").join("") };
    };
    const settle = async () => {
        for (let n = 0; n < 20; n++) await new Promise(setImmediate);
    };
    const until = async (isSo) => {
        while (!isSo()) await new Promise((resolve) => setTimeout(resolve, 1));
    };
    let restarts = 0;
    const begun = async (view = {}) => {
        const watch = new m.Watch(
            { users: [], filters: {}, ...view },
            { changed() {}, restart: () => (restarts += 1) },
        );
        await settle();
        return watch;
    };
    const told = (watch) => watch.rows.list.filter((row) => row.rule !== "day").map(
        (row) => row.rule ?? (row.entry ? `${Number(row.id)} ${row.source}` : "message"));
    const ids = (watch) => watch.rows.list.filter((row) => row.entry).map((row) => Number(row.id));
"""


def watched(body: str) -> Any:
    return result_of("watch.js", MAKE + body)


def test_it_begins_with_the_newest_and_goes_on_live() -> None:
    shown = watched("""
        const watch = await begun();
        const states = [watch.state.name];
        await sockets[0].begin(entries(0, 2));
        await sockets[0].say({ type: "auditlog", data: entry(2), cursor: "d" });
        states.push(watch.state.name);
        watch.close();
        return [states, sockets[0].sent, told(watch), watch.arrived];
    """)
    sent = [{"type": "token", "token": "a token"}, {"type": "resume", "last": 200}]
    assert shown == [["connecting", "exact"], sent, ["0 history", "1 history", "2 live"], 1]


@pytest.mark.parametrize(("begin", "first"), [(10, 50), (150, 50), (260, 260)])
def test_the_newest_are_shown_before_the_feed_begins_and_joined_where_they_can_be(
    begin: int, first: int
) -> None:
    shown = watched(f"""
        table = entries(0, 250);
        const watch = await begun();
        const seen = [watch.state.name, ids(watch).length];
        await sockets[0].begin(entries({begin}, 400));
        watch.close();
        return [seen, ids(watch)];
    """)
    assert shown == [["connecting", 200], list(range(first, 400))]


def test_what_comes_while_one_looks_at_older_entries_is_counted() -> None:
    shown = watched("""
        const watch = await begun();
        await sockets[0].begin([]);
        watch.stop();
        await sockets[0].say({ type: "auditlog_batch", data: entries(0, 37), cursor: "d" });
        const news = watch.news;
        watch.follow();
        watch.close();
        return [news, watch.news, ids(watch).length];
    """)
    assert shown == [37, 0, 37]


def test_a_lost_connection_is_a_rule_and_what_was_missed_is_marked_below_it() -> None:
    shown = watched("""
        const watch = await begun();
        await sockets[0].begin(entries(0, 2));
        sockets[0].onclose({ code: 1006, reason: "" });
        const lost = [watch.state.name, watch.outage.what, watch.outage.to];
        await until(() => sockets.length === 2);
        await settle();
        await sockets[1].begin(entries(1, 4));
        await sockets[1].say({ type: "auditlog", data: entry(4), cursor: "e" });
        watch.close();
        const rule = watch.rows.list.find((row) => row.rule === "outage");
        return [lost, sockets[1].sent[1], told(watch), rule.recovered, rule.to !== null];
    """)
    rows = ["0 history", "1 history", "outage", "2 recovered", "3 recovered", "4 live"]
    resume = {"type": "resume", "cursor": "c"}
    assert shown == [["connecting", "Not connected", None], resume, rows, 2, True]


def test_redis_away_is_an_outage_and_the_badge_says_so() -> None:
    shown = watched("""
        const watch = await begun();
        await sockets[0].begin([entry(0)]);
        await sockets[0].say({ type: "status", state: "redis_away" });
        const away = [watch.state, watch.outage.what];
        await sockets[0].say({ type: "status", state: "live" },
            { type: "auditlog", data: entry(1), cursor: "d" });
        await sockets[0].say({ type: "caught_up", cursor: "e" });
        watch.close();
        return [away, told(watch), watch.outage, watch.state.name];
    """)
    away = [{"name": "recovering", "text": "Redis is away."}, "Redis away"]
    assert shown[:3] == [away, ["0 history", "outage", "1 recovered"], None]


def test_older_entries_are_read_to_the_beginning_though_many_are_of_one_moment() -> None:
    shown = watched("""
        table = [...entries(0, 10), ...entries(10, 1210).map((e) => entry(Number(e.id), A, 10)),
            ...entries(1210, 1800)];
        const watch = await begun({ users: [A] });
        await sockets[0].begin(table.slice(-200));
        for (let n = 0; watch.rows.hasOlder && n < 20; n++) {
            await watch.loadOlder();
            await until(() => !watch.isLoading);
        }
        watch.close();
        const all = ids(watch);
        return [all.length, all.every((id, index) => id === index), asked.map((q) => q.limit)];
    """)
    assert shown[:2] == [1800, True]
    assert shown[2][:3] == ["200", "500", "500"]
    assert "1000" in shown[2]


def test_several_users_are_one_sequence_without_a_gap() -> None:
    shown = watched("""
        table = Array.from({ length: 3000 }, (_, n) => entry(n, n < 1500 || n % 10 ? A : B));
        const of = (user) => table.filter((e) => e.user_id === user);
        const watch = await begun({ users: [A, B] });
        await sockets[0].begin(of(A).slice(-200));
        const before = ids(watch);
        await sockets[1].begin(of(B).slice(-200));
        const first = ids(watch);
        for (let n = 0; watch.rows.hasOlder && n < 20; n++) {
            await watch.loadOlder();
            await until(() => !watch.isLoading);
        }
        watch.close();
        const all = ids(watch);
        const isWhole = (list) => list.every((id, i) => i === 0 || id === list[i - 1] + 1);
        return [isWhole(before), isWhole(first), first.at(-1), all.length, isWhole(all)];
    """)
    assert shown == [True, True, 2999, 3000, True]


def test_a_range_that_is_over_is_read_and_not_followed() -> None:
    shown = watched("""
        table = entries(0, 100);
        const range = { since: entry(10).occurred_at, until: entry(20).occurred_at };
        const watch = await begun({ filters: range });
        await until(() => !watch.isLoading);
        return [sockets.length, watch.state.name, ids(watch), watch.rows.hasOlder];
    """)
    assert shown == [0, "history", list(range(10, 20)), False]


def test_nothing_older_is_read_before_it_is_known_where_the_feed_begins() -> None:
    shown = watched("""
        table = entries(0, 300);
        const watch = new m.Watch(
            { users: [], filters: { since: "1h" } },
            { changed() { watch?.loadOlder(); }, restart() {} },
        );
        await watch.loadOlder();
        await settle();
        const before = asked.length;
        await sockets[0].begin(table.slice(-200));
        await until(() => !watch.isLoading && !watch.rows.hasOlder);
        watch.close();
        return [before, asked.slice(0, 2), ids(watch)];
    """)
    begin = "2026-01-01T00:00:00.000000Z"
    asked = [{"since": "1h", "first": "1"}, {"since": begin, "limit": "200"}]
    assert shown == [2, asked, list(range(300))]


def test_nothing_from_before_the_range_is_shown() -> None:
    shown = watched("""
        table = entries(0, 100);
        const watch = await begun({ filters: { since: entry(95).occurred_at } });
        await sockets[0].begin(table);
        await sockets[0].say({ type: "auditlog_batch", data: [entry(200, A, 3), entry(100)] });
        watch.close();
        return ids(watch);
    """)
    assert shown == [95, 96, 97, 98, 99, 100]


@pytest.mark.parametrize(("begin", "since"), [(0, "00:00:39"), (90, "00:01:30")])
def test_where_the_bridge_knows_the_place_no_more_it_goes_on_by_time_and_says_so(
    begin: int, since: str
) -> None:
    """By that of the minute before, where that much is shown."""
    shown = watched(f"""
        const watch = await begun();
        await sockets[0].begin(entries({begin}, 100));
        sockets[0].onclose({{ code: 1006, reason: "" }});
        await until(() => sockets.length === 2);
        await sockets[1].say({{ type: "error", code: "cursor_refused", message: "Not ours." }});
        sockets[1].onclose({{ code: 4400, reason: "" }});
        await settle();
        const [resume] = sockets[2].sent.slice(1);
        await sockets[2].begin(entries(Number(resume.since.slice(14, 16)) * 60
            + Number(resume.since.slice(17, 19)), 103));
        watch.close();
        return [resume.since, ids(watch), watch.isExact, watch.error];
    """)
    assert shown == [f"2026-01-01T{since}.000000Z", list(range(begin, 103)), False, None]


def test_while_one_looks_at_older_entries_memory_is_bounded_and_newer_ones_are_read_again() -> None:
    shown = watched("""
        const watch = await begun();
        table = entries(0, 25_000);
        await sockets[0].begin(table.slice(0, 200));
        watch.stop();
        for (let n = 200; n < 25_000; n += 400) {
            const data = table.slice(n, n + 400);
            await sockets[0].say({ type: "auditlog_batch", data, cursor: "x" });
        }
        const held = [watch.rows.isAttached, watch.rows.list.length < 21_100, watch.news];
        for (let n = 0; restarts === 0 && n < 50; n++) {
            await watch.loadNewer();
            await until(() => !watch.isLoading);
        }
        const all = ids(watch);
        watch.close();
        return [held, all.at(-1), all.every((id, i) => i === 0 || id === all[i - 1] + 1), restarts];
    """)
    assert shown == [[False, True, 24_800], 24_999, True, 1]


def test_the_beginning_of_history_is_shown_at_once() -> None:
    shown = watched("""
        table = entries(0, 5_000);
        const watch = await begun();
        await sockets[0].begin(table.slice(-200));
        await watch.toBeginning();
        watch.close();
        const all = ids(watch);
        return [all[0], all.length, watch.rows.hasOlder, watch.rows.isAttached, watch.isFollowing];
    """)
    assert shown == [0, 500, False, False, False]


def test_the_beginning_of_history_is_shown_though_the_bridge_is_slow_to_begin() -> None:
    shown = watched("""
        table = entries(0, 5_000);
        const watch = await begun();
        await watch.toBeginning();
        await sockets[0].begin(table.slice(-200));
        watch.close();
        return [ids(watch), watch.rows.isAttached];
    """)
    assert shown == [list(range(500)), False]


def test_from_the_beginning_on_several_users_are_one_sequence_too() -> None:
    shown = watched("""
        table = Array.from({ length: 2500 }, (_, n) => entry(n, n % 10 ? A : B));
        const watch = await begun({ users: [A, B] });
        await sockets[0].begin(table.filter((e) => e.user_id === A).slice(-200));
        await sockets[1].begin(table.filter((e) => e.user_id === B).slice(-200));
        await watch.toBeginning();
        for (let n = 0; restarts === 0 && n < 20; n++) {
            await until(() => !watch.isLoading);
            await watch.loadNewer();
        }
        watch.close();
        const all = ids(watch);
        return [all.length, all.every((id, index) => id === index), restarts];
    """)
    assert shown == [2500, True, 1]


@pytest.mark.parametrize("users", ["[]", "[A]"])
def test_what_is_sent_says_whose_it_is_where_every_user_is_watched(
    users: str,
) -> None:
    shown = watched(f"""
        const watch = await begun({{ users: {users} }});
        await sockets[0].begin([entry(0)]);
        const sent = [watch.acknowledge(entry(0)), watch.broadcast(A, "hello")];
        watch.close();
        return [sent, sockets[0].sent.slice(2)];
    """)
    whose = {"user_id": "3f2b8c1e-5d7a-4b9c-9e1f-0a6d2c4b8e10"} if users == "[]" else {}
    acknowledgment = {"type": "acknowledgment", "event_id": "000000"} | whose
    assert shown == [[True, True], [acknowledgment, {"broadcast": True, "data": "hello"} | whose]]


def test_who_may_not_is_told_and_nothing_is_tried_again() -> None:
    shown = watched("""
        const watch = await begun();
        sockets[0].onclose({ code: 4403, reason: "The token does not allow to read this user." });
        await settle();
        return [watch.state, watch.error.code, sockets.length];
    """)
    text = "The token does not allow to read this user."
    assert shown == [{"name": "closed", "text": text}, 4403, 1]
