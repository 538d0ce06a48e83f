/** What is asked or told above the page. */
import { Keep } from "./keep.js";
import { KEYS } from "./keys.js";
import { shortId, visible } from "./text.js";
import { html, useEffect, useRef, useState } from "./vendor/htm-preact.js";
import { MOST_USERS } from "./view.js";

const TITLES = {
  token: "A token is needed",
  refused: "Not available",
  users: "Users",
  send: "Send a test message",
  keep: "Keep as a file",
  help: "Keys",
};
const BODIES = { token: Token, refused: Refused, users: Users, send: Send, keep: Keep, help: Help };

export function Dialogs({ page }) {
  return page.dialog && html`<${Dialog} page=${page} name=${page.dialog} key=${page.dialog} />`;
}

function Dialog({ page, name }) {
  const dialog = useRef();
  useEffect(() => dialog.current.showModal(), []);
  const isNeeded = name === "token" || name === "refused";
  return html`<dialog ref=${dialog} aria-labelledby="title" class=${name}
    onCancel=${(event) => isNeeded && event.preventDefault()} onClose=${() => page.show(null)}>
    <h2 id="title">${TITLES[name]}</h2>
    ${
      !isNeeded &&
      html`<button class="close" aria-label="Close" onClick=${() => page.show(null)}>×</button>`
    }
    <${BODIES[name]} page=${page} />
  </dialog>`;
}

function Token({ page }) {
  const submit = (event) => {
    event.preventDefault();
    page.enter(new FormData(event.currentTarget).get("token"));
  };
  return html`<form onSubmit=${submit}>
    <p role="alert">${page.because}</p>
    <label>Token <input name="token" type="password" required autocomplete="off" autofocus /></label>
    <p class="dim">It is kept until this tab is closed.</p>
    <p class="buttons"><button>Go on</button></p>
  </form>`;
}

function Refused({ page }) {
  return html`<p role="alert">${page.because}</p>
    <p class="buttons"><button onClick=${() => page.enter()}>Try again</button></p>`;
}

function Users({ page }) {
  const [chosen, setChosen] = useState(page.view.users);
  const find = (event) => page.findUsers(event.currentTarget.value.trim());
  const toggle = (id) =>
    setChosen(chosen.includes(id) ? chosen.filter((other) => other !== id) : [...chosen, id]);
  const look = (users) => {
    page.show(null);
    page.look({ ...page.view, users });
  };
  const submit = (event) => {
    event.preventDefault();
    look(chosen.length ? chosen : page.users.slice(0, 1).map(({ user_id: id }) => id));
  };
  return html`<form onSubmit=${submit}>
    <label>E-mail or id <input type="search" autocomplete="off" autofocus onInput=${find} /></label>
    <ul class="choices">
      ${page.users.map(
        ({ user_id: id, email, entries, last }) => html`<li key=${id}><label>
          <input type="checkbox" checked=${chosen.includes(id)} onChange=${() => toggle(id)}
            disabled=${!chosen.includes(id) && chosen.length >= MOST_USERS} />
          <span>${email ? visible(email) : id}</span>
          <span class="dim">${email && shortId(id)}</span>
          <span class="dim">${entries?.toLocaleString("en")}</span>
          <span class="dim">${last?.slice(0, 16).replace("T", " ")}</span>
        </label></li>`,
      )}
    </ul>
    ${!page.users.length && html`<p role="status">${page.because || "Nobody."}</p>`}
    <p class="buttons">
      <button>${chosen.length ? `Watch ${chosen.length}` : "Watch the first"}</button>
      <button type="button" onClick=${() => look([])}>Watch every user</button>
    </p>
  </form>`;
}

function Send({ page }) {
  const [said, setSaid] = useState("");
  const users = page.view.users.length ? page.view.users : page.users.map(({ user_id: id }) => id);
  const submit = (event) => {
    event.preventDefault();
    const given = new FormData(event.currentTarget);
    const isSent = page.watch.broadcast(given.get("user"), given.get("text"));
    setSaid(
      isSent ? "Sent: all who follow the user get it." : "There is no connection at the moment.",
    );
  };
  return html`<form onSubmit=${submit}>
    <label>To <select name="user">
      ${users.map((id) => html`<option value=${id}>${visible(page.names.get(id) ?? id)}</option>`)}
    </select></label>
    <label>Text <input name="text" required defaultValue="Is anybody there?" autocomplete="off" /></label>
    <p class="dim">It goes to the channel, not into the audit log.</p>
    <p role="status">${said}</p>
    <p class="buttons"><button>Send</button></p>
  </form>`;
}

function Help() {
  return html`<table><tbody>
    ${KEYS.map(
      ([key, other, what]) => html`<tr>
        <th scope="row">${[key, other].filter(Boolean).map((each) => html`<kbd>${each}</kbd> `)}</th>
        <td>${what}</td>
      </tr>`,
    )}
  </tbody></table>
  <p>● came live, ○ from history, ↺ recovered from the database.</p>`;
}
