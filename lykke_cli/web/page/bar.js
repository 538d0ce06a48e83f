/** The bar above: whose entries, the badge, what can be done, and the filters. */
import { shortId, visible } from "./text.js";
import { html, useEffect, useRef } from "./vendor/htm-preact.js";
import { summaryOf } from "./view.js";

const BADGES = {
  exact: "exact",
  inexact: "not exact",
  recovering: "recovering",
  connecting: "not connected",
  closed: "ended",
  history: "history",
};
const FIELDS = [
  ["activity_type", "Types", "TASK_*  MESSAGE_SENT", true],
  ["exclude", "But not", "*_DEBUG", true],
  ["entity_type", "Entity type", "task"],
  ["entity_id", "Entity id", "3f2b8c1e-…"],
  ["grep", "Text", "a regular expression"],
  ["not_grep", "Without text", ""],
  ["since", "Since", "15m  2h  yesterday  2026-01-31"],
  ["until", "Until", "now"],
  ["query", "JMESPath", "meta.minutes > `30`"],
];

export function Bar({ page }) {
  const { name, text } = page.watch.state;
  const can = page.me.scopes;
  const filters = summaryOf(page.view);
  return html`
    <div class="bar">
      <h1>lykke</h1>
      <button class="long" disabled=${!page.me.all_users} onClick=${() => page.show("users")}>
        ${usersIn(page)} <kbd>u</kbd>
      </button>
      <span id="badge" data-state=${name} title=${text}>${BADGES[name]}</span>
      <span class="room"></span>
      <button class="long" aria-expanded=${String(page.isFinding)} aria-controls="finder"
        onClick=${() => page.find(!page.isFinding)}>
        Find${filters && `: ${visible(filters)}`} <kbd>/</kbd>
      </button>
      ${
        can.includes("publish") &&
        html`<button onClick=${() => page.show("send")}>Send <kbd>s</kbd></button>`
      }
      <button onClick=${() => page.show("keep")}>Keep <kbd>e</kbd></button>
      <button aria-label="? Keys" onClick=${() => page.show("help")}>?</button>
    </div>
    ${page.isFinding && html`<${Finder} page=${page} key=${location.hash} />`}
  `;
}

function usersIn({ view, names }) {
  if (!view.users.length) return "Every user";
  const [first] = view.users;
  const more = view.users.length - 1;
  return visible(names.get(first) ?? shortId(first)) + (more ? ` and ${more} more` : "");
}

function Finder({ page }) {
  const first = useRef();
  useEffect(() => first.current.focus(), []);
  const submit = (event) => {
    event.preventDefault();
    const given = new FormData(event.currentTarget);
    const changes = FIELDS.map(([name, , , isList]) => {
      const value = given.get(name).trim();
      return [name, isList ? value.split(/[\s,]+/).filter(Boolean) : value];
    });
    page.filter(Object.fromEntries(changes));
  };
  return html`<form id="finder" role="search" onSubmit=${submit}>
    ${FIELDS.map(
      ([name, label, hint, isList], index) => html`<label>
        ${label}
        <input name=${name} ref=${index ? undefined : first} placeholder=${hint} spellcheck=${false}
          autocomplete="off" list=${isList && "types"} defaultValue=${[page.view.filters[name] ?? ""].flat().join(" ")} />
      </label>`,
    )}
    <datalist id="types">${page.types.map((type) => html`<option value=${type} />`)}</datalist>
    <p class="buttons">
      <button>Find</button>
      <button type="button" onClick=${() => page.look({ ...page.view, filters: {} })}>Clear</button>
    </p>
  </form>`;
}
