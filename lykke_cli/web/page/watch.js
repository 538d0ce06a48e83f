/**
 * Watches a view: live over `lykke.js`, older and newer over the history, all into rows.
 *
 * Several users are several feeds, whose entries come together by their time. With `until` there is
 * nothing to follow: it is history alone.
 */
import { follow } from "../lykke.js";
import { entries as entriesOf, token } from "./bridge.js";
import { MOST, Rows } from "./rows.js";
import { justAfter, timeOf } from "./text.js";
import { RANGE, pairsOf, withFilters } from "./view.js";

const FIRST = 200; // entries with which a view begins
const PAGE = 500; // entries that are read at once
const OVERLAP = 60_000; // ms that are read again where a feed goes on by time
const PATIENCE = 3_000; // ms before what could not be read is asked for again

export class Watch {
  rows = new Rows();
  isFollowing = true; // the newest row is in sight, and stays so
  news = 0; // entries that came while it was not
  arrived = 0; // entries that came live or were recovered, since the beginning
  outage = null; // the rule of the one that lasts
  isExact = true; // false once it had to go on by time
  error = null; // why something cannot be shown
  isLoading = false;
  #view;
  #feeds = []; // { feed, user, state, detail, first: the entries before it was caught up }
  #changed;
  #onmessage;
  #restart; // begin the view anew, in another Watch
  #isOver = false;
  #bound; // when the first entry of the view's range occurred, where it has `since`

  constructor(view, { changed, restart, onmessage = () => {} }) {
    this.#view = view;
    this.#changed = changed;
    this.#restart = restart;
    this.#onmessage = onmessage;
    this.#begin().catch((error) => this.#fail(error));
  }

  close() {
    this.#isOver = true;
    for (const { feed } of this.#feeds) feed.close();
  }

  /** Whose entries are shown; null stands for every user. */
  get #users() {
    return this.#view.users.length ? this.#view.users : [null];
  }

  get isLive() {
    return !this.#view.filters.until;
  }

  /** One word for all feeds, and a sentence. */
  get state() {
    const worst = (state) => this.#feeds.find((source) => source.state === state);
    if (!this.isLive) return { name: "history", text: "A range of history: nothing is followed." };
    if (this.error && !this.#feeds.length) return { name: "closed", text: this.error.message };
    const closed = worst("closed");
    if (closed) return { name: "closed", text: closed.feed.error?.message ?? "Ended." };
    if (!this.#feeds.length || worst("connecting")) {
      const { reason } = worst("connecting")?.detail ?? {};
      return { name: "connecting", text: reason || "Connecting to the bridge." };
    }
    const away = this.#feeds.find(({ detail }) => /_away$/.test(detail?.state))?.detail.state;
    const what = { redis_away: "Redis is away.", database_away: "The database is away." }[away];
    if (worst("recovering") || worst("paused") || away)
      return { name: "recovering", text: what ?? "What was missed is being read." };
    if (!this.isExact || this.#feeds.some(({ feed }) => feed.exact === false))
      return { name: "inexact", text: "Live, but entries may have been missed or repeated." };
    return { name: "exact", text: "Live: every committed entry, once." };
  }

  /** Older entries, before the first row. */
  async loadOlder() {
    const oldest = this.rows.oldest();
    if (!this.rows.hasOlder || !this.#isReady) return;
    await this.#load(async (limit) => {
      const { rows } = this;
      const found = await this.#read("limit", limit, oldest && { until: justAfter(oldest) });
      const added = rows.prepend(found);
      rows.hasOlder = found.length >= limit;
      return added || !rows.hasOlder;
    });
  }

  /** Newer ones, after the last row, until what is live is reached. */
  async loadNewer() {
    const since = this.rows.newest();
    if (this.rows.isAttached || !since) return;
    await this.#load(async (limit) => {
      const found = await this.#read("first", limit, { since });
      const added = this.rows.append(found);
      if (found.length >= limit) return added;
      if (this.isLive) this.#restart();
      else this.rows.isAttached = true;
      return true;
    });
  }

  /** Show the beginning of history, and what follows it. */
  async toBeginning() {
    if (!this.rows.hasOlder) return;
    await this.#load(async () => {
      const found = await this.#read("first", PAGE);
      this.rows = new Rows();
      this.rows.hasOlder = this.rows.isAttached = false;
      this.rows.append(found);
      this.isFollowing = false;
      return true;
    });
  }

  /** Go on with the newest. */
  follow() {
    this.isFollowing = true;
    this.news = 0;
    if (!this.rows.isAttached) this.#restart();
    this.rows.dropOldest();
    this.#changed();
  }

  /** Somebody looks at older rows. */
  stop() {
    this.isFollowing = false;
    this.#changed();
  }

  /** Say that an entry was seen, or send `data`, to a user's channel; false without a connection. */
  acknowledge(entry) {
    const more = this.#view.users.length ? {} : { user_id: entry.user_id };
    return this.#feedOf(entry.user_id)?.acknowledge(entry.id, more) ?? false;
  }

  broadcast(user, data) {
    const more = this.#view.users.length ? {} : { user_id: user };
    return this.#feedOf(user)?.broadcast(data, more) ?? false;
  }

  #feedOf = (user) => this.#feeds.find((source) => [user, null].includes(source.user))?.feed;

  get #isReady() {
    const haveBegun = this.#feeds.length > 0 && this.#feeds.every(({ first }) => first === null);
    return !this.isLive || haveBegun;
  }

  async #begin() {
    if (this.#view.filters.since) {
      const [first] = await this.#read("first", 1);
      this.#bound = first?.occurred_at ?? "";
    }
    if (this.#isOver) return;
    if (!this.isLive) {
      this.rows.isAttached = true;
      await this.loadOlder();
      return;
    }
    const start = this.#bound === "" ? {} : { last: FIRST };
    for (const user of this.#users) this.#feeds.push(this.#source(user, start));
    this.#changed();
    if (this.#bound !== "") await this.#glance();
  }

  /** Show the newest at once, while the feeds still look for where they begin. */
  async #glance() {
    const found = await this.#read("limit", FIRST).catch(() => []); // the feeds tell what is wrong
    if (this.#isReady || this.#isOver || !this.rows.isAttached) return;
    this.rows.prepend(found);
    this.#changed();
  }

  /** A feed from `start` on; `first` takes what there was before it is caught up. */
  #source(user, start, first = []) {
    const source = { user, state: "connecting", detail: null, first };
    source.feed = follow({
      ...(user && { userId: user }),
      url: new URL("..", import.meta.url).href,
      token,
      ...start,
      filters: pairsOf(this.#view, RANGE),
      onentries: (entries) => this.#take(source, entries),
      onmessage: (message) => this.#hear(message),
      onstate: (state, detail) => this.#become(source, state, detail),
      onerror: (error) => {
        if (error.code === "cursor_refused") source.isLost = true;
        else if (!source.isLost) this.#fail(error);
      },
    });
    return source;
  }

  #take(source, entries) {
    const wanted = this.#bound ? entries.filter((e) => !(e.occurred_at < this.#bound)) : entries;
    if (source.first) source.first.push(...wanted);
    else this.#show(wanted, source.state === "live" ? "live" : "recovered");
  }

  #show(entries, source) {
    if (!entries.length) return;
    const { rows } = this;
    if (!this.isFollowing && rows.list.length > MOST) rows.isAttached = false;
    const added = rows.isAttached ? rows.add(entries, source) : entries.length;
    if (source !== "history") this.arrived += added;
    if (this.isFollowing) rows.dropOldest();
    else this.news += added;
    if (this.outage && source === "recovered") this.outage.recovered += added;
    this.#changed();
  }

  #hear(message) {
    this.#onmessage(message);
    const now = timeOf(new Date());
    if (this.rows.isAttached) this.rows.addLast({ message, cameAt: now }, now);
    this.#changed();
  }

  #become(source, state, detail) {
    if (this.#isOver) return;
    Object.assign(source, { state, detail });
    if (state === "closed" && source.isLost) this.#replace(source);
    if (source.first && (state === "live" || detail?.state)) source.isCaughtUp = true;
    if (this.#feeds.every(({ isCaughtUp }) => isCaughtUp)) this.#showFirst();
    const isRedisAway = detail?.state === "redis_away";
    const isAway = isRedisAway || ["connecting", "closed"].includes(state);
    if (isAway && !source.first && !this.outage && this.rows.isAttached) {
      const now = timeOf(new Date());
      const what = isRedisAway ? "Redis away" : "Not connected";
      const rule = { rule: "outage", what, from: now, to: null, recovered: 0 };
      this.outage = this.rows.addLast(rule, now);
    }
    if (this.outage && this.#feeds.every((other) => other.state === "live")) {
      this.outage.to = timeOf(new Date());
      this.outage = null;
    }
    this.error = state === "live" ? null : this.error;
    this.#changed();
  }

  /** The bridge knows the place no more, as after a restart with another key: go on by time. */
  #replace(source) {
    this.isExact = false;
    const [oldest, newest] = [this.rows.oldest(), this.rows.newest()];
    const start = { last: FIRST };
    if (newest) {
      const since = timeOf(new Date(Date.parse(newest) - OVERLAP));
      Object.assign(start, { last: undefined, since: since < oldest ? oldest : since });
    }
    this.#feeds[this.#feeds.indexOf(source)] = this.#source(source.user, start, source.first);
  }

  /** What there was at the beginning, from where on nothing of any user's is missing. */
  #showFirst() {
    if (this.#isReady) return;
    const firsts = this.#feeds.map(({ first }) => first);
    for (const source of this.#feeds) source.first = null;
    if (!this.rows.isAttached) return; // somebody went to the beginning of history meanwhile
    const found = complete(firsts, FIRST, "limit");
    const isApart = this.rows.newest() < found[0]?.occurred_at; // from what a glance showed
    if (isApart) this.rows = new Rows();
    const oldest = this.rows.oldest();
    this.rows.add(
      found.filter((entry) => !(entry.occurred_at < oldest)),
      "history",
    );
  }

  /** Read pages of more and more entries, while all that come are here already: of one moment. */
  async #load(read) {
    if (this.isLoading) return;
    this.isLoading = true;
    let wait = 0;
    try {
      for (let limit = PAGE; !this.#isOver && !(await read(limit));) limit *= 2;
      this.error = null;
    } catch (error) {
      this.#fail(error);
      wait = PATIENCE;
    }
    setTimeout(() => {
      this.isLoading = false;
      this.#changed();
    }, wait);
  }

  /** A page of every user's history, in one order. */
  async #read(which, limit, within = {}) {
    const bound = this.#bound ? { since: this.#bound } : {};
    const narrowed = withFilters(this.#view, { ...bound, ...within });
    const pairs = [...pairsOf(narrowed), [which, limit]];
    const pages = await Promise.all(this.#users.map((user) => entriesOf({ user, pairs })));
    return complete(pages, limit, which);
  }

  #fail(error) {
    if (this.#isOver) return;
    this.error = error;
    this.#changed();
  }
}

/**
 * The lists as one in order, as far as none of them lacks anything: one that has as many as were
 * asked for may go on beyond its beginning (`limit`, the newest) or its end (`first`, the oldest).
 */
function complete(lists, limit, which) {
  const all = lists.flat().sort((a, b) => (order(a) < order(b) ? -1 : 1));
  const full = lists.filter((list) => lists.length > 1 && list.length >= limit);
  if (!full.length) return all;
  if (which === "first") {
    const end = full.map((list) => order(list.at(-1))).reduce((a, b) => (a < b ? a : b));
    return all.filter((entry) => order(entry) <= end);
  }
  const begin = full.map((list) => order(list[0])).reduce((a, b) => (a > b ? a : b));
  return all.filter((entry) => order(entry) >= begin);
}

const order = (entry) => (entry.occurred_at ?? "") + entry.id;
