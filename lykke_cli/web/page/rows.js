/**
 * The rows of the table, in the order of (time, id): entries, other messages of the channel, and
 * rules for each day and each outage. Pure: no clock, no document.
 *
 * They are a window on what there is. Older rows are dropped while new ones come, newer ones while
 * older are read, and read again when somebody scrolls there; so memory is bounded for ever.
 */
import { dayOf } from "./text.js";

export const MOST = 20_000; // rows
const SPARE = 1_000; // rows beyond it before any are dropped: at once costs less than one by one
const LATE = 5_000; // ms that a live entry may occur before another that came before it
const NO_TIME = "0001-01-01T00:00:00.000000Z"; // of an entry outside of the calendar

const isBefore = (row, other) => (row.at === other.at ? row.id < other.id : row.at < other.at);
const dayRule = (day) => ({ rule: "day", at: day, id: "", day });
const isInPlace = (row) => row.entry !== undefined && row.at === row.entry.occurred_at;

export class Rows {
  list = [];
  hasOlder = true; // there may be some before the first
  isAttached = true; // the newest end is where live entries come
  #ids = new Set(); // of the entries in it
  #displaced = 0; // rows that were put after the newest, whatever their time

  /**
   * Add those entries that are not here yet, each where it belongs; how many they were. What
   * occurred before the first row, where others are missing, or long before what came live, comes
   * last or between, and is marked.
   */
  add(entries, source) {
    let added = 0;
    for (const entry of entries) {
      if (this.#ids.has(entry.id)) continue;
      this.#ids.add(entry.id);
      const at = entry.occurred_at ?? NO_TIME;
      const newest = this.list.at(-1)?.at ?? "";
      const isBehind = this.hasOlder && at < (this.oldest() ?? "");
      const isLate = at < newest && (isBehind || Date.parse(newest) - Date.parse(at) > LATE);
      const place = isBehind ? this.#end() : { at, id: entry.id };
      this.#insert({ ...place, entry, source: source === "live" && isLate ? "recovered" : source });
      added += 1;
    }
    return added;
  }

  /** Add a row of another kind as the last; `now` where it is the first. */
  addLast(fields, now) {
    const row = { ...this.#end(now), ...fields };
    this.#insert(row);
    return row;
  }

  /** A page of history before the first row; how many of it were new. */
  prepend(entries) {
    const page = this.#page(entries);
    const first = this.list[0];
    if (page.length && first && dayOf(page.at(-1).at) === first.day) this.list.shift();
    this.list = page.concat(this.list);
    if (this.list.length > MOST + SPARE) {
      this.#forget(this.list.splice(MOST));
      this.isAttached = false;
    }
    return page.length;
  }

  /** A page of history after the last row; how many of it were new. */
  append(entries) {
    const page = this.#page(entries);
    const last = this.list.at(-1);
    if (page.length && last && page[0].day === dayOf(last.at)) page.shift();
    this.list = this.list.concat(page);
    this.dropOldest();
    return page.length;
  }

  /** Keep the newest alone, where there are too many. */
  dropOldest() {
    if (this.list.length <= MOST + SPARE) return;
    this.#forget(this.list.splice(0, this.list.length - MOST));
    if (this.list[0].rule !== "day") this.list.unshift(dayRule(dayOf(this.list[0].at)));
    this.hasOlder = true;
  }

  /** Where a row is, or would be. */
  indexOf(row) {
    let low = 0;
    let high = this.list.length;
    while (low < high) {
      const middle = (low + high) >> 1;
      if (isBefore(this.list[middle], row)) low = middle + 1;
      else high = middle;
    }
    return low;
  }

  /** When the first and the last entry occurred, from and to which nothing is missing. */
  oldest = () => this.list.find(isInPlace)?.at;
  newest = () => this.list.findLast(isInPlace)?.at;

  #page(entries) {
    const rows = [];
    for (const entry of entries) {
      if (this.#ids.has(entry.id)) continue;
      this.#ids.add(entry.id);
      const at = entry.occurred_at ?? NO_TIME;
      if (dayOf(at) !== rows.at(-1)?.at.slice(0, 10)) rows.push(dayRule(dayOf(at)));
      rows.push({ at, id: entry.id, entry, source: "history" });
    }
    return rows;
  }

  #insert(row) {
    const { list } = this;
    let index = list.length;
    while (index > 0 && isBefore(row, list[index - 1])) index -= 1;
    const day = dayOf(row.at);
    if (!list[index - 1] || dayOf(list[index - 1].at) !== day)
      list.splice(index++, 0, dayRule(day));
    list.splice(index, 0, row);
  }

  /** The place after all rows. */
  #end(now) {
    const at = this.list.at(-1)?.at ?? now;
    return { at, id: `~${String((this.#displaced += 1)).padStart(9, "0")}` }; // no id is behind it
  }

  #forget(rows) {
    for (const { entry } of rows) if (entry) this.#ids.delete(entry.id);
  }
}
