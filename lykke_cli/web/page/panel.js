/** One entry whole, and the others of its entity. */
import { lineOf, entries as entriesOf } from "./bridge.js";
import { clockOf, colorOf, dayOf, detailsOf, visible, visibleLines } from "./text.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";

const MOST = 50; // of the entity's other entries
const CAME = { live: "live", history: "from history", recovered: "recovered from the database" };

/** A number that JavaScript cannot hold stays as it is written, where the browser knows how. */
const unrounded = (key, value, context) =>
  typeof value === "number" && JSON.rawJSON && String(value) !== context?.source
    ? JSON.rawJSON(context.source)
    : value;

export function Panel({ page, row }) {
  return row && html`<${Entry} page=${page} row=${row} key=${row.id} />`;
}

function Entry({ page, row }) {
  const { entry, source } = row;
  const heading = useRef();
  const [line, setLine] = useState(null); // as the database has it
  const [isCopied, setCopied] = useState(false);
  useEffect(() => {
    heading.current.focus();
    const leaving = new AbortController();
    if (entry.occurred_at) lineOf(entry, leaving.signal).then(setLine, () => {});
    return () => leaving.abort();
  }, []);
  const copy = async () => {
    await navigator.clipboard.writeText(line ?? JSON.stringify(entry));
    setCopied(true);
  };
  const { meta = null } = line ? JSON.parse(line, unrounded) : entry;
  const email = page.names.get(entry.user_id);
  const by = page.acknowledged.get(entry.id);
  const [sent, setSent] = useState("");
  const acknowledge = () =>
    setSent(page.watch.acknowledge(entry) ? "Sent." : "There is no connection at the moment.");
  return html`
    <h2 tabindex="-1" ref=${heading} class=${colorOf(entry.activity_type ?? "")}>
      ${visible(entry.activity_type ?? "unreadable")}
    </h2>
    <button class="close" aria-label="Close" onClick=${() => page.close()}>×</button>
    <dl>
      <dt>Occurred</dt><dd>${visible(entry.occurred_at ?? "")}</dd>
      <dt>Came</dt><dd>${CAME[source]}</dd>
      <dt>User</dt><dd>${email && html`${visible(email)}<br />`}<code>${visible(entry.user_id)}</code></dd>
      <dt>Entry</dt><dd><code>${visible(entry.id)}</code></dd>
      ${entry.entity_type && html`<dt>Entity type</dt><dd>${visible(entry.entity_type)}</dd>`}
      ${entry.entity_id && html`<dt>Entity</dt><dd><code>${visible(entry.entity_id)}</code></dd>`}
    </dl>
    <pre tabindex="0" role="group" aria-label="Meta">${visibleLines(JSON.stringify(meta, null, 2))}</pre>
    <p class="buttons">
      <button onClick=${copy}>${isCopied ? "Copied" : "Copy JSON"}</button>
      ${
        page.me.scopes.includes("publish") &&
        html`<button onClick=${acknowledge}>Acknowledge</button>`
      }
      <button onClick=${() => page.filter({ activity_type: [entry.activity_type] })}>Only this type</button>
      ${
        entry.entity_id &&
        html`<button onClick=${() => page.filter({ entity_id: entry.entity_id })}>Only this entity</button>`
      }
    </p>
    <p role="status">${by ? `Acknowledged by ${visible(by)}.` : sent}</p>
    ${entry.entity_id && html`<${Others} page=${page} entry=${entry} />`}
  `;
}

/** The entity's other entries, the newest first. */
function Others({ page, entry }) {
  const [found, setFound] = useState(null);
  const [error, setError] = useState(null);
  useEffect(() => {
    const pairs = [
      ["entity_id", entry.entity_id],
      ["limit", MOST],
    ];
    const user = page.me.all_users ? null : entry.user_id;
    const leaving = new AbortController();
    entriesOf({ user, pairs, signal: leaving.signal }).then(
      (entries) => setFound(entries.reverse()),
      (reason) => reason.name !== "AbortError" && setError(reason.message),
    );
    return () => leaving.abort();
  }, []);
  if (error) return html`<p role="alert" class="error">${error}</p>`;
  const others = found?.filter(({ id }) => id !== entry.id);
  if (!others?.length) return others && html`<p>The entity has no other entries.</p>`;
  return html`<h3>The entity’s other entries</h3>
    <ul>
      ${others.map(
        (
          other,
        ) => html`<li><button onClick=${() => page.open({ entry: other, id: other.id, source: "history" })}>
          <span class="time">${dayOf(other.occurred_at ?? "")} ${clockOf(other.occurred_at ?? "").slice(0, 8)}</span>
          <span class=${colorOf(other.activity_type ?? "")}>${visible(other.activity_type ?? "")}</span>
          <span class="details">${detailsOf(other.meta, 100)}</span>
        </button></li>`,
      )}
    </ul>`;
}
