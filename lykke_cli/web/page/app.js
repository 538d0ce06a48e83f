/** The page: what is where, and which part is told of what. */
import { Bar } from "./bar.js";
import { askJson, setToken, takeToken, token } from "./bridge.js";
import { Dialogs } from "./dialogs.js";
import { Histogram } from "./histogram.js";
import { commandOf } from "./keys.js";
import { Panel } from "./panel.js";
import { Speaker } from "./speaker.js";
import { Table } from "./table.js";
import { html, render } from "./vendor/htm-preact.js";
import { fragmentOf, viewOf, withFilters } from "./view.js";
import { Watch } from "./watch.js";

const MOST_ACKNOWLEDGED = 10_000; // entries of which it is known
const element = (id) => document.getElementById(id);

class Page {
  view;
  watch = null;
  me = null; // what the token allows
  users = []; // recently active first
  names = new Map(); // e-mail addresses by the users' ids
  opened = null; // the row that the panel shows
  acknowledged = new Map(); // by whom, by the ids of entries
  dialog = null; // the name of the one that is open
  types = []; // the most frequent of the range
  isFinding = false; // the filters are shown
  #search = null; // among the users: ends the one under way
  #counted = null; // the view of which the histogram is
  #isDue = false; // a frame is asked for
  #table = new Table(element("grid"), {
    onopen: (row) => this.open(row),
    changed: () => this.changed(),
  });
  #speaker = new Speaker(element("said"));

  async begin() {
    takeToken();
    addEventListener("hashchange", () => {
      if (takeToken()) this.enter();
      else this.go(viewOf(location.hash));
    });
    document.addEventListener("keydown", (event) => this.#press(event));
    await this.enter();
  }

  /** Ask what the token allows, and show the view that the address says. */
  async enter(given) {
    if (given) setToken(given);
    try {
      this.me = await askJson("whoami");
    } catch (error) {
      if (error.status !== 401) return this.#refuse(error);
      return this.show("token", token() ? error.message : "");
    }
    this.dialog = null;
    this.go(viewOf(location.hash));
    await this.findUsers("");
  }

  /** Show a view; whoever may see one user alone sees that one. */
  go(view) {
    if (!this.me) return;
    const mine = this.me.user_id;
    this.view = !this.me.all_users && mine ? { ...view, users: [mine] } : view;
    this.opened = null;
    this.restart();
  }

  restart = () => {
    this.watch?.close();
    this.watch = new Watch(this.view, {
      changed: () => this.changed(),
      restart: this.restart,
      onmessage: (message) => this.#hear(message),
    });
    this.#table.focus();
    this.changed();
  };

  /** Have the address say the view: then it can be sent, and gone back from. */
  look(view) {
    const fragment = fragmentOf(view);
    if (fragment === location.hash) this.restart();
    else location.hash = fragment;
  }

  filter(changes) {
    this.isFinding = false;
    this.look(withFilters(this.view, changes));
  }

  open(row) {
    this.opened = row;
    this.changed();
  }

  show(dialog, because = "") {
    Object.assign(this, { dialog, because });
    if (!dialog) this.#table.focus();
    if (dialog === "users" || dialog === "send") this.findUsers("");
    this.changed();
  }

  find(isFinding) {
    this.isFinding = isFinding;
    if (!isFinding) this.#table.focus();
    this.changed();
  }

  /** The users whose address or id has `text` in it. A search ends the one before it. */
  async findUsers(text) {
    if (!this.me.all_users) return;
    this.#search?.abort();
    const { signal } = (this.#search = new AbortController());
    this.because = "";
    try {
      const pairs = Object.entries({ q: text, limit: 50 });
      this.users = await askJson("users", { pairs, signal });
      for (const { user_id: id, email } of this.users) if (email) this.names.set(id, email);
    } catch (error) {
      if (error.name === "AbortError") return;
      this.users = [];
      this.because = error.message;
    }
    this.changed();
  }

  close() {
    if (this.opened) {
      this.opened = null;
      this.#table.focus();
    } else if (this.isFinding) this.find(false);
    this.changed();
  }

  /** Something is to be drawn: once, in the next frame. */
  changed() {
    if (this.#isDue) return;
    this.#isDue = true;
    requestAnimationFrame(() => {
      this.#isDue = false;
      this.#draw();
    });
  }

  #draw() {
    const { watch } = this;
    if (watch?.error?.status === 401 || watch?.error?.code === 4401)
      if (!this.dialog) this.show("token", watch.error.message);
    render(html`<${Dialogs} page=${this} />`, element("dialogs"));
    if (!watch) return;
    render(html`<${Bar} page=${this} />`, element("bar"));
    if (this.#counted !== this.view) this.#count();
    render(html`<${Panel} page=${this} row=${this.opened} />`, element("panel"));
    element("panel").hidden = !this.opened;
    render(html`<${Float} watch=${watch} />`, element("float"));
    const hasUsers = this.view.users.length !== 1;
    this.#table.draw(watch, { names: this.names, hasUsers });
    this.#speaker.say(watch);
    document.title = `${watch.news ? `(${watch.news}) ` : ""}lykke`;
  }

  /** The histogram draws itself, when it has counted. */
  #count() {
    this.#counted = this.view;
    const props = {
      view: this.view,
      filter: (range) => this.filter(range),
      ontypes: (types) => (this.types = types),
    };
    render(html`<${Histogram} ...${props} />`, element("range"));
  }

  #hear({ type, event_id: id, from }) {
    if (type !== "acknowledgment" || !id) return;
    this.acknowledged.set(id, from ?? "somebody");
    if (this.acknowledged.size > MOST_ACKNOWLEDGED)
      this.acknowledged.delete(this.acknowledged.keys().next().value);
  }

  #refuse(error) {
    this.show("refused", error.message);
  }

  /** Select the next entry, and where one is shown whole, show that one. */
  #step(by) {
    this.#table.move(by);
    if (this.opened && this.#table.selected?.entry) this.open(this.#table.selected);
  }

  #press(event) {
    const command = commandOf(event);
    if (!command || this.dialog || !this.watch) return;
    event.preventDefault();
    const { watch } = this;
    ({
      follow: () => watch.follow(),
      beginning: () => watch.toBeginning().then(() => this.#table.toTop()),
      next: () => this.#step(1),
      previous: () => this.#step(-1),
      find: () => this.find(true),
      users: () => this.me.all_users && this.show("users"),
      send: () => this.me.scopes.includes("publish") && this.show("send"),
      keep: () => this.show("keep"),
      help: () => this.show("help"),
      close: () => this.close(),
    })[command]();
    this.changed();
  }
}

/** What floats above the table's end: how to go on, and what went wrong. */
function Float({ watch }) {
  const count = watch.news.toLocaleString("en");
  const isBehind = !watch.isFollowing && (watch.isLive || !watch.rows.isAttached);
  return html`
    ${watch.error && html`<p role="alert" class="error">${watch.error.message}</p>`}
    ${
      !watch.rows.list.length &&
      !watch.isLoading &&
      !watch.error &&
      watch.state.name !== "connecting" &&
      html`<p class="nothing">Nothing yet.</p>`
    }
    ${
      isBehind &&
      html`<button id="new" onClick=${() => watch.follow()}>
      ${watch.news ? `${count} new` : "Newest"} <kbd>End</kbd>
    </button>`
    }
  `;
}

new Page().begin();
