/** The table: of its rows only those in sight are in the document. */
import { drawn, isAtEnd, topFor } from "./scrolling.js";
import { clockOf, colorOf, dayOf, detailsOf, shortId, visible } from "./text.js";
import { html, render } from "./vendor/htm-preact.js";

const SIGNS = { live: "●", history: "○", recovered: "↺" };
const NEAR = 60; // rows from an end at which more is read

export class Table {
  selected = null; // a row
  #grid;
  #rows; // where those in sight are
  #space; // as high as all of them together
  #watch;
  #show; // { names, hasUsers } of what is drawn
  #anchor = null; // { row, offset }: what stays in its place while others come above it
  #top = 0; // px that it is scrolled by
  #height = 0; // px in which rows are seen
  #rowHeight = 1; // px
  #pressed = null; // the row under the pointer that went down
  #onopen;

  constructor(grid, { onopen, changed }) {
    this.#grid = grid;
    this.#onopen = onopen;
    this.#space = grid.querySelector(".space");
    this.#rows = grid.querySelector(".rows");
    this.#measure();
    grid.addEventListener("scroll", () => this.#scrolled(), { passive: true });
    grid.addEventListener("wheel", ({ deltaY }) => deltaY < 0 && this.#leave(), { passive: true });
    grid.addEventListener("pointerdown", ({ target }) => (this.#pressed = this.#rowAt(target)));
    grid.addEventListener("click", ({ target }) => this.#clicked(target));
    grid.addEventListener("keydown", (event) => this.#pressedKey(event));
    new ResizeObserver(() => {
      this.#measure();
      changed();
    }).observe(grid);
  }

  focus() {
    this.#grid.focus({ preventScroll: true });
  }

  open(row) {
    this.selected = row;
    this.#onopen(row);
  }

  /** Select the row `by` so many further, and leave the newest if it is above. */
  move(by) {
    const { list } = this.#watch.rows;
    let index = this.selected ? this.#watch.rows.indexOf(this.selected) : this.#last;
    if (this.selected) index += by;
    while (list[index]?.rule) index += Math.sign(by);
    if (!list[index]) return;
    this.selected = list[index];
    const top = topFor(index, this.#geometry);
    if (index < list.length - 1) this.#watch.stop();
    else if (this.#watch.rows.isAttached) this.#watch.follow();
    this.#anchor = { row: this.selected, offset: top - index * this.#geometry.rowHeight };
  }

  /** Go to the first row. */
  toTop() {
    this.#anchor = null;
    this.selected = null;
    this.#grid.scrollTop = this.#top = 0;
    this.#watch.stop();
  }

  /** Draw what the watch has now; called once in a frame at most. */
  draw(watch, show) {
    if (watch !== this.#watch) this.selected = this.#anchor = null;
    this.#watch = watch;
    this.#show = show;
    const { rows } = watch;
    const { rowHeight, height, total } = this.#geometry;
    this.#space.style.height = `${total * rowHeight}px`;
    if (watch.isFollowing) this.#scrollTo(total * rowHeight - height);
    else if (this.#anchor)
      this.#scrollTo(rows.indexOf(this.#anchor.row) * rowHeight + this.#anchor.offset);
    const { first, last } = drawn(this.#geometry);
    this.#rows.style.transform = `translateY(${first * rowHeight}px)`;
    render(
      rows.list.slice(first, last).map((row, i) => this.#row(row, first + i)),
      this.#rows,
    );
    this.#describe(total, rows.list.slice(first, last).includes(this.selected));
    this.#setAnchor();
    if (first < NEAR && rows.hasOlder) watch.loadOlder();
    if (last > total - NEAR && !rows.isAttached) watch.loadNewer();
  }

  #describe(total, isSelectedDrawn) {
    const { rows } = this.#watch;
    const isWhole = !rows.hasOlder && rows.isAttached;
    this.#grid.setAttribute("aria-rowcount", isWhole ? total + 1 : -1);
    this.#grid.setAttribute("aria-colcount", this.#show.hasUsers ? 6 : 5);
    this.#grid.classList.toggle("with-users", this.#show.hasUsers);
    if (isSelectedDrawn) this.#grid.setAttribute("aria-activedescendant", "selected");
    else this.#grid.removeAttribute("aria-activedescendant");
  }

  /** What costs a layout to ask for. */
  #measure() {
    this.#rowHeight = parseFloat(getComputedStyle(this.#grid).getPropertyValue("--row"));
    this.#height = this.#grid.clientHeight - this.#grid.firstElementChild.offsetHeight;
  }

  get #geometry() {
    const total = this.#watch.rows.list.length;
    return { top: this.#top, height: this.#height, rowHeight: this.#rowHeight, total };
  }

  /** The last row that can be seen whole. */
  get #last() {
    const { top, height, rowHeight, total } = this.#geometry;
    return Math.min(total, Math.floor((top + height) / rowHeight)) - 1;
  }

  /** Nothing is asked of the document that it would have to lay out for an answer. */
  #scrollTo(top) {
    const { height, rowHeight, total } = this.#geometry;
    const wanted = Math.max(0, Math.min(top, total * rowHeight - height));
    if (Math.abs(this.#top - wanted) >= 1) this.#grid.scrollTop = this.#top = wanted;
  }

  #scrolled() {
    const { scrollTop } = this.#grid;
    if (!this.#watch || Math.abs(scrollTop - this.#top) < 1) return; // it was our own
    const isUp = scrollTop < this.#top;
    this.#top = scrollTop;
    this.#setAnchor();
    if (isUp || !this.#watch.rows.isAttached || !isAtEnd(this.#geometry)) this.#watch.stop();
    else this.#watch.follow();
  }

  #leave() {
    if (this.#watch?.isFollowing && this.#geometry.top > 0) this.#watch.stop();
  }

  /** A rule of a day is no anchor: it moves to where its day begins. */
  #setAnchor() {
    const { list } = this.#watch.rows;
    const { top, rowHeight } = this.#geometry;
    let index = Math.floor(top / rowHeight);
    while (list[index]?.rule === "day") index += 1;
    this.#anchor = list[index] ? { row: list[index], offset: top - index * rowHeight } : null;
  }

  #rowAt(target) {
    const element = target.closest("[aria-rowindex]");
    return this.#watch.rows.list[element?.getAttribute("aria-rowindex") - 2];
  }

  /** What was under the pointer when it went down: rows move on. Who has no pointer clicks alone. */
  #clicked(target) {
    const row = this.#pressed ?? this.#rowAt(target);
    this.#pressed = null;
    if (row?.entry) this.open(row);
  }

  #pressedKey(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step) this.move(step);
    else if (event.key === "Enter" && this.selected?.entry) this.open(this.selected);
    else return;
    event.preventDefault();
  }

  #row(row, index) {
    const is = row === this.selected;
    const common = {
      role: "row",
      "aria-rowindex": index + 2,
      "aria-selected": is ? "true" : "false",
      id: is ? "selected" : undefined,
    };
    if (row.rule)
      return html`<div ...${common} class="rule" data-rule=${row.rule}>
      <span role="gridcell" aria-colspan=${this.#show.hasUsers ? 6 : 5}>${ruleText(row)}</span>
    </div>`;
    const { entry, message } = row;
    const [kind, details] = entry ? described(row) : otherwise(message);
    return html`<div ...${common} class="row ${entry ? row.source : "other"}" data-id=${entry && row.id}>
      <span role="gridcell" class="time">${entry ? timeOf(row) : clockOf(row.cameAt)}</span>
      <span role="gridcell" class="sign" aria-label=${row.source}>${SIGNS[row.source]}</span>
      ${this.#show.hasUsers && this.#user(entry?.user_id ?? message?.user_id)}
      <span role="gridcell" class="activity ${entry ? colorOf(entry.activity_type ?? "") : ""}"
        >${kind}</span>
      <span role="gridcell" class="entity"
        >${entry && visible((entry.entity_type ?? "").slice(0, 100))} <i>${shortId(entry?.entity_id)}</i>
      </span>
      <span role="gridcell" class="details">${details}</span>
    </div>`;
  }

  #user(id = "") {
    const name = this.#show.names.get(id);
    return html`<span role="gridcell" class="user ${colorOf(id)}"
      >${name ? visible(name) : shortId(id)}</span>`;
  }
}

/** The time of day; of an entry that was put elsewhere than where it occurred, the day. */
function timeOf({ at, entry }) {
  const time = entry.occurred_at ?? "";
  return dayOf(time) === dayOf(at) ? clockOf(time) : dayOf(time);
}

/** What is put together once, when a row is first in sight. */
function described(row) {
  const { activity_type: type, unreadable, meta } = row.entry;
  row.described ??=
    type === undefined
      ? ["unreadable", visible(String(unreadable ?? "").slice(0, 400))]
      : [visible(type.slice(0, 200)), detailsOf(meta)];
  return row.described;
}

function otherwise({ type, ...rest }) {
  return [visible(String(type ?? "message").slice(0, 200)), detailsOf(rest)];
}

function ruleText(row) {
  if (row.rule === "day") return `${row.day} UTC`;
  const from = clockOf(row.from).slice(0, 8);
  if (row.to === null) return `${row.what} since ${from}`;
  const entries = row.recovered === 1 ? "1 entry" : `${row.recovered} entries`;
  return `${row.what} from ${from} to ${clockOf(row.to).slice(0, 8)}: ${entries} recovered`;
}
