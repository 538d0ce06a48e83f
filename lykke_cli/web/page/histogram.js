/** How many entries there were over time; a choice of bars is a range of time. */
import { askJson } from "./bridge.js";
import { rangeOf, spanText } from "./ranges.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { UNCOUNTED, pairsOf } from "./view.js";

const BARS = 60;
const DEFAULT = "24h";
const AGAIN = 15_000; // ms, while the range goes on to now

export function Histogram({ view, filter, ontypes }) {
  const [counts, setCounts] = useState(null);
  const [error, setError] = useState(null);
  const [chosen, setChosen] = useState(null); // [from, to]: the bars of a range that is chosen
  const isPressed = useRef(false);
  const { since = DEFAULT, until } = view.filters;
  useEffect(() => {
    const leaving = new AbortController();
    setChosen(null);
    const count = async () => {
      try {
        const [bars, types] = await countsOf(view, since, leaving.signal);
        setCounts(bars);
        ontypes(types);
        setError(null);
      } catch (reason) {
        if (reason.name !== "AbortError") setError(reason.message);
      }
    };
    count();
    const timer = until ? undefined : setInterval(() => document.hidden || count(), AGAIN);
    return () => {
      clearInterval(timer);
      leaving.abort();
    };
  }, [view]);

  if (error) return html`<p class="error">${error}</p>`;
  if (!counts?.length) return html`<p class="dim">${counts ? "No entries in this range." : ""}</p>`;
  const most = Math.max(1, ...counts.map(({ total }) => total));
  const [from, to] = chosen ?? [-1, -1];
  const isIn = (index) => index >= Math.min(from, to) && index <= Math.max(from, to);
  const take = (bars) => filter(rangeOf(counts, bars, until));
  const at = ({ clientX, currentTarget }) => {
    const { left, width } = currentTarget.getBoundingClientRect();
    const index = Math.floor(((clientX - left) / width) * counts.length);
    return Math.max(0, Math.min(counts.length - 1, index));
  };
  const press = (event) => {
    event.currentTarget.setPointerCapture(event.pointerId);
    isPressed.current = true;
    setChosen([at(event), at(event)]);
  };
  const drag = (event) => isPressed.current && setChosen([from, at(event)]);
  const lift = () => {
    if (isPressed.current && chosen) take(chosen);
    isPressed.current = false;
  };
  const key = (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Enter" && chosen) take(chosen);
    else if (event.key === "Escape" && chosen) setChosen(null);
    else if (step) {
      const end = chosen ? Math.max(0, Math.min(counts.length - 1, to + step)) : counts.length - 1;
      setChosen([event.shiftKey && chosen ? from : end, end]);
    } else return;
    event.preventDefault();
    event.stopPropagation();
  };
  const uncounted = UNCOUNTED.filter((name) => view.filters[name]);
  return html`
    <div role="listbox" tabindex="0" class="bars" aria-multiselectable="true"
      aria-label="Entries over time. Arrows choose a bar, with Shift several, Enter shows the range."
      aria-activedescendant=${chosen ? `bar-${to}` : undefined}
      onPointerDown=${press} onPointerMove=${drag} onPointerUp=${lift} onKeyDown=${key}>
      ${counts.map(
        ({ total }, index) => html`<div role="option" id="bar-${index}" class="bar"
          aria-selected=${String(isIn(index))} aria-label=${spanText(counts, index)} title=${spanText(counts, index)}>
          <div class="amount" style=${{ height: `${total && Math.max(3, (100 * total) / most)}%` }}></div>
        </div>`,
      )}
    </div>
    <p class="scale">
      <span>${label(counts[0].from)}</span>
      <span>${counts.reduce((sum, { total }) => sum + total, 0).toLocaleString("en")} entries${uncounted.length ? `, whatever ${uncounted.join(", ")} says` : ""}</span>
      ${
        (view.filters.since || until) &&
        html`<button onClick=${() => filter({ since: "", until: "" })}>All times</button>`
      }
      <span>${label(counts.at(-1).to)}</span>
    </p>`;
}

const label = (time) => `${time.slice(0, 10)} ${time.slice(11, 16)}`;

/** The bars of all the view's users together, each with its end, and the most frequent types. */
async function countsOf(view, since, signal) {
  const pairs = [...pairsOf(view, [...UNCOUNTED, "since"]), ["since", since], ["buckets", BARS]];
  const users = view.users.length ? view.users : [null];
  const found = await Promise.all(
    users.map((user) => askJson("counts", { user, pairs, signal })),
  );
  const [{ counts, to }, ...more] = found;
  for (const other of more)
    other.counts.forEach(({ total }, index) => counts[index] && (counts[index].total += total));
  const bars = counts.map((bar, index) => ({ ...bar, to: counts[index + 1]?.from ?? to }));
  const numbers = new Map();
  for (const { activity_type: type, entries } of found.flatMap(({ types }) => types ?? []))
    numbers.set(type, (numbers.get(type) ?? 0) + entries);
  return [bars, [...numbers.keys()].sort((one, other) => numbers.get(other) - numbers.get(one))];
}
