/** The shown range as a file, streamed: what has come is the browser's, on disk, not the page's. */
import { ask } from "./bridge.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { pairsOf } from "./view.js";

const FORMS = { ndjson: "application/x-ndjson", csv: "text/csv" };
const PORTION = 4 << 20; // bytes in memory at most before they are handed to the browser

export function Keep({ page }) {
  const [size, setSize] = useState(null); // bytes so far
  const [said, setSaid] = useState("");
  const leaving = useRef(null);
  useEffect(() => () => leaving.current?.abort(), []);
  const submit = async (event) => {
    event.preventDefault();
    const form = new FormData(event.currentTarget).get("form");
    leaving.current = new AbortController();
    setSize(0);
    setSaid("");
    try {
      save(await read(page.view, form, leaving.current.signal, setSize), `audit-log.${form}`);
      setSaid("Whole, and handed to the browser.");
    } catch (error) {
      if (error.name !== "AbortError") setSaid(`Not kept: ${error.message}`);
    }
    setSize(null);
  };
  const { since = "the beginning", until = "now" } = page.view.filters;
  const order = page.view.users.length > 1 ? "user by user" : "oldest first";
  return html`<form onSubmit=${submit}>
    <p>What matches the filters, since ${since}, until ${until}, ${order}.</p>
    <fieldset><legend>Form</legend>
      <label><input type="radio" name="form" value="ndjson" defaultChecked /> NDJSON</label>
      <label><input type="radio" name="form" value="csv" /> CSV</label>
    </fieldset>
    <p role="status">${size === null ? said : `${(size / (1 << 20)).toFixed(1)} MiB`}</p>
    <p class="buttons">
      ${
        size === null
          ? html`<button>Keep</button>`
          : html`<button type="button" onClick=${() => leaving.current.abort()}>Stop</button>`
      }
    </p>
  </form>`;
}

/** The history of all the view's users, one after the other, as one blob. */
async function read(view, form, signal, onsize) {
  let whole = new Blob([]);
  const pairs = [...pairsOf(view), ...(form === "csv" ? [["format", "csv"]] : [])];
  for (const [index, user] of (view.users.length ? view.users : [null]).entries()) {
    let waiting = [];
    let bytes = 0;
    let isHeader = form === "csv" && index > 0; // of another user's: it is there already
    for await (let chunk of chunksOf(await ask("history", { user, pairs, signal }))) {
      if (isHeader) {
        const end = chunk.indexOf(10) + 1;
        isHeader = end === 0;
        chunk = chunk.subarray(end || chunk.length);
      }
      waiting.push(chunk);
      if ((bytes += chunk.length) < PORTION) continue;
      whole = new Blob([whole, ...waiting]);
      onsize(whole.size);
      waiting = [];
      bytes = 0;
    }
    whole = new Blob([whole, ...waiting], { type: FORMS[form] });
  }
  return whole;
}

async function* chunksOf(response) {
  const reader = response.body.getReader();
  for (let part; !(part = await reader.read()).done;) yield part.value;
}

function save(blob, name) {
  const link = Object.assign(document.createElement("a"), {
    href: URL.createObjectURL(blob),
    download: name,
  });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
}
