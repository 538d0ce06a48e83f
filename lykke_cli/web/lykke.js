/**
 * Follows a user's audit log over a bridge (`lykke serve`): every entry once, in a browser or in
 * node, across lost connections, restarts of the bridge, and outages of what stands behind it.
 *     import { follow } from "/lykke.js";
 *     for await (const entry of follow({ userId, token })) show(entry);
 * Without `userId` every user's come. Beside it: `url` of the bridge, by default where this module
 * came from; `token`, a text or a function, asked before every connection; `cursor` to go on from,
 * else the one in `storage` (such as sessionStorage), else `since` (a Date or text) or `last` (a
 * number), else from now on; `filters`, pairs or an object; `WebSocket` where there is no global one.
 * Called: `onentries(entries)` in place of the loop, and awaited; `onmessage(message)` with what
 * else came on the channel; `onstate(state, detail)`; `onerror(error)`, which need not be the end.
 */
const SILENCE = 60_000; // ms without a frame, where heartbeats come every 25 s: nobody is there
const FIRST_WAIT = 1_000; // ms at most before coming back; twice as long after each failure, up to
const LONGEST_WAIT = 30_000;
const MOST_WAITING = 10_000; // entries that nobody took yet: beyond it no more are let come
const KEPT = 5_000; // ids of what came before the newest cursor
const FINAL = [4400, 4403]; // not understood, not allowed: another attempt would end the same
const TOKEN_NEEDED = 4401;
const DEAF = { onopen: null, onmessage: null, onclose: null };

export const follow = (options) => new Feed(options);
const failure = (code, message) =>
  Object.assign(new Error(message || `The bridge closed the connection with ${code}.`), { code });

class Feed {
  state = "connecting"; // "recovering": what was missed still comes; "live"; "paused"; "closed"
  exact = null; // true, and false once entries may have been missed or repeated since the beginning
  cursor; // where another feed goes on: after the last frame of which every entry was dealt with
  error = null; // why it ended by itself
  #options;
  #clock; // globalThis, or what a test puts in its place
  #address;
  #received; // the newest cursor that came: the entries up to it were taken, or are in #frames
  #frames = []; // { entries, size, cursor }; of the first some may be taken
  #waiting = 0; // entries in them
  #ids = new Set(); // of what came, the oldest first
  #socket = null;
  #timer;
  #failures = 0; // to connect, in a row
  #afterMs = 0; // how long the bridge asked us to wait
  #wasRefused = false; // the token, since one was last accepted
  #wake = () => {};

  constructor(options) {
    const { userId, url = new URL(".", import.meta.url).href, filters } = options;
    const base = new URL(url.replace(/\/?$/, "/"), globalThis.location?.href);
    const address = new URL("userId" in options ? `ws/${encodeURIComponent(userId)}` : "ws", base);
    address.protocol = address.protocol.replace("http", "ws");
    address.search = new URLSearchParams(filters);
    this.#address = address.href;
    this.#options = options;
    this.#clock = options.clock ?? globalThis;
    this.cursor = options.cursor ?? options.storage?.getItem(this.#address) ?? null;
    this.#received = this.cursor;
    this.#connect();
    if (options.onentries) this.#deliver().catch((error) => this.#end(error));
  }

  /** End it, and the loop over it. */
  close() {
    this.#frames = this.#frames.filter(({ entries }) => !entries.length); // dealt with, if asked on
    this.#end(null);
  }

  /** Send `data` to all who follow the user; false where there is no connection just now. */
  broadcast = (data, more) => this.#send({ ...more, broadcast: true, data });
  /** Tell them that an entry was seen; `more` is sent along, such as the `user_id` one has to say. */
  acknowledge = (id, more) => this.#send({ ...more, type: "acknowledgment", event_id: id });

  async *[Symbol.asyncIterator]() {
    for (let frame; (frame = await this.#next());) yield frame.entries.shift();
  }

  async #deliver() {
    for (let frame; (frame = await this.#next());)
      await this.#options.onentries(frame.entries.splice(0));
  }

  /** The frame to take from. Who asks again has dealt with what it took: so the cursor moves. */
  async #next() {
    for (;;) {
      const frame = this.#frames[0];
      if (frame?.entries.length) return frame;
      if (frame) {
        this.#waiting -= this.#frames.shift().size;
        this.cursor = frame.cursor ?? this.cursor;
        if (frame.cursor) this.#options.storage?.setItem(this.#address, frame.cursor);
      } else if (this.error) throw this.error;
      else if (this.state === "closed") return null;
      else if (this.state === "paused") this.#connect();
      else await new Promise((resolve) => (this.#wake = resolve));
    }
  }

  async #connect() {
    const { token, since, last, WebSocket = globalThis.WebSocket } = this.#options;
    this.state = "connecting";
    try {
      const given = typeof token === "function" ? await token() : token;
      if (this.state === "closed") return;
      const socket = (this.#socket = new WebSocket(this.#address, ["lykke.v1"]));
      socket.onopen = () => {
        if (given) this.#send({ type: "token", token: given });
        const start = this.#received ? { cursor: this.#received } : { since, last };
        this.#send({ type: "resume", ...start });
      };
      socket.onmessage = ({ data }) => this.#receive(JSON.parse(data));
      socket.onclose = ({ code, reason }) => this.#closed(code, reason);
      socket.onerror = () => {}; // its close follows
      this.#watch();
    } catch (error) {
      this.#comeBack({ error });
    }
  }

  #watch() {
    this.#clock.clearTimeout(this.#timer);
    const giveUp = () => this.#comeBack({ reason: "Nothing was heard for a minute." });
    this.#timer = this.#clock.setTimeout(giveUp, SILENCE);
  }

  #receive(frame) {
    const { type, data, cursor } = frame;
    const isTold = /^(status|notice)$/.test(type);
    this.#watch();
    if (/^auditlog(_batch)?$/.test(type)) this.#add([data].flat(), cursor);
    else if (/^(subscribed|caught_up|heartbeat)$/.test(type)) this.#add([], cursor);
    else if (type === "reconnect") this.#afterMs = frame.after_ms;
    else if (type === "error") {
      if (frame.code === "cursor_refused") this.#options.storage?.removeItem(this.#address);
      this.#options.onerror?.(failure(frame.code, frame.message));
    } else if (!isTold) this.#options.onmessage?.(frame);
    if (type === "caught_up") this.#become("live", frame);
    if (type === "notice") this.exact = false;
    if (isTold)
      this.#become(frame.state === "redis_away" ? "recovering" : this.state, frame);
    if (type !== "subscribed") return;
    this.exact = this.exact !== false && frame.exact && (frame.recovered || this.exact === null);
    this.#wasRefused = false;
    this.#failures = 0;
    this.#become("recovering", frame);
  }

  #add(received, cursor) {
    const entries = received.filter(({ id }) => !this.#ids.has(id) && this.#ids.add(id));
    if (cursor) this.#received = cursor; // what came since is sent again to who comes back with it
    if (cursor && this.#ids.size > 2 * KEPT) this.#ids = new Set([...this.#ids].slice(-KEPT));
    const newest = this.#frames.at(-1);
    if (!entries.length && newest) newest.cursor = cursor ?? newest.cursor;
    else this.#frames.push({ entries, size: entries.length, cursor });
    this.#waiting += entries.length;
    if (this.#waiting > MOST_WAITING) this.#stop("paused", {});
    this.#wake();
  }

  #closed(code, reason) {
    const canRenew = typeof this.#options.token === "function" && !this.#wasRefused;
    this.#wasRefused = code === TOKEN_NEEDED;
    if (FINAL.includes(code) || (this.#wasRefused && !canRenew)) this.#end(failure(code, reason));
    else this.#comeBack({ code, reason });
  }

  #comeBack(detail) {
    const most = Math.min(LONGEST_WAIT, FIRST_WAIT * 2 ** this.#failures++);
    const wait = this.#afterMs + this.#clock.Math.random() * most;
    this.#afterMs = 0;
    this.#stop("connecting", { ...detail, wait });
    if (this.state === "closed") return; // by who was told just now
    this.#timer = this.#clock.setTimeout(() => this.#connect(), wait);
  }

  #end(error) {
    if (this.state === "closed") return;
    this.error = error;
    if (error) this.#options.onerror?.(error);
    this.#stop("closed", { error });
    this.#wake();
  }

  /** Leave the socket, whatever state it is in: nothing it still says is heard. */
  #stop(state, detail) {
    this.#clock.clearTimeout(this.#timer);
    if (this.#socket) Object.assign(this.#socket, DEAF).close();
    this.#socket = null;
    this.#become(state, detail);
  }

  #send(message) {
    if (this.#socket?.readyState !== 1) return false;
    this.#socket.send(JSON.stringify(message));
    return true;
  }

  #become(state, detail) {
    this.state = state;
    this.#options.onstate?.(state, detail);
  }
}
