/** The bridge over HTTP: every request has the token in its header, and none in its address. */

import { justAfter } from "./text.js";

const TOKEN = "lykke-token"; // in the session's storage: it ends with the tab

/** Take the token out of the address bar, before anything else can see or send it; is there one? */
export function takeToken() {
  const fragment = new URLSearchParams(location.hash.slice(1));
  const token = fragment.get("token");
  if (token === null) return false;
  sessionStorage.setItem(TOKEN, token);
  fragment.delete("token");
  const rest = fragment.size ? `#${fragment}` : "";
  history.replaceState(null, "", `${location.pathname}${location.search}${rest}`);
  return true;
}

export const token = () => sessionStorage.getItem(TOKEN);
export const setToken = (text) => sessionStorage.setItem(TOKEN, text.trim());

/** The bridge said no: `code` is its word, `status` that of HTTP, 0 where nobody answered. */
export class Refused extends Error {
  constructor(message, { code = "", status = 0 } = {}) {
    super(message);
    Object.assign(this, { code, status });
  }
}

const base = new URL("..", import.meta.url);
const ofUser = (path, user) => (user ? `${path}/${encodeURIComponent(user)}` : path);

/** A response that is good; raises Refused. `user` may be null, for every user. */
export async function ask(path, { user = null, pairs = [], signal } = {}) {
  const address = new URL(ofUser(path, user), base);
  address.search = new URLSearchParams(pairs);
  const headers = token() ? { Authorization: `Bearer ${token()}` } : {};
  let response;
  try {
    response = await fetch(address, { headers, signal, cache: "no-store" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Refused("The bridge cannot be reached.");
  }
  if (response.ok) return response;
  const { code, message } = await response.json().catch(() => ({}));
  throw new Refused(message ?? `The bridge answered ${response.status}.`, {
    code,
    status: response.status,
  });
}

export const askJson = async (path, options) => (await ask(path, options)).json();

/** Entries of history, oldest first; raises Refused, also for an answer that was broken off. */
export async function entries(options) {
  const lines = (await linesOf(options)).map((line) => JSON.parse(line));
  const error = lines.find((line) => line.type === "error" && !line.id);
  if (error) throw new Refused(error.message, error);
  return lines;
}

/** The entry's line as the database has it, where JavaScript would round numbers; null: none. */
export async function lineOf({ id, user_id: user, occurred_at: since }, signal) {
  const pairs = [
    ["since", since],
    ["until", justAfter(since)],
  ];
  const lines = await linesOf({ user, pairs, signal });
  return lines.find((line) => JSON.parse(line).id === id) ?? null;
}

const linesOf = async (options) =>
  (await (await ask("history", options)).text()).split("\n").filter(Boolean);
