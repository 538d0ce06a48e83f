/** Foreign text made harmless, and short: pure. The same signs and colours as of `lykke tail`. */

const UNSEEN =
  "\\x00-\\x1f\\x7f-\\x9f\\xad\\u034f\\u061c\\u115f\\u1160\\u17b4\\u17b5\\u180b-\\u180e" +
  "\\u200b-\\u200f\\u2028-\\u202e\\u2060-\\u206f\\u3164\\ufeff\\uffa0\\ufff0-\\uffff" +
  "\\u{e0000}-\\u{e00ff}\\u{e01f0}-\\u{e0fff}\\p{Surrogate}";
const DANGEROUS = new RegExp(`[${UNSEEN}]`, "gu");
const DANGEROUS_IN_LINES = new RegExp(`(?!\\n)[${UNSEEN}]`, "gu");
const NAMED = { "\t": "\\t", "\n": "\\n", "\r": "\\r" };
const LEADING = ["title", "text", "name", "error", "reason"]; // what one looks for first
const SHORT = 8; // characters of an id
const MEANINGS = [
  [/FAILED|ERROR|DENIED|DELETED/i, "red"],
  [/TASK_?COMPLETED/i, "green"],
  [/TASK_?PUNTED/i, "yellow"],
  [/MESSAGE_?SENT/i, "cyan"],
  [/MESSAGE_?RECEIVED/i, "blue"],
];
const OTHERS = ["magenta", "violet", "pink", "cyan", "blue"];
const colors = new Map(); // of names: a page sees few, and at most
const MOST_COLORS = 1_000;

const escaped = (character) => {
  const code = character.codePointAt(0);
  const hex = code.toString(16);
  if (code <= 0xff) return NAMED[character] ?? `\\x${hex.padStart(2, "0")}`;
  return code <= 0xffff ? `\\u${hex.padStart(4, "0")}` : `\\U${hex.padStart(8, "0")}`;
};

/** `text` on one line, with each dangerous or invisible character shown as its escape. */
export const visible = (text) => String(text).replace(DANGEROUS, escaped);
/** The same with its line feeds. */
export const visibleLines = (text) => String(text).replace(DANGEROUS_IN_LINES, escaped);

export const shortId = (id) => visible(id ?? "").slice(0, SHORT);
export const dayOf = (time) => time.slice(0, 10);
/** The time of day with milliseconds. */
export const clockOf = (time) => time.slice(11, 23);
/** A moment of the browser's clock, written as the times of entries are. */
export const timeOf = (date) => date.toISOString().replace("Z", "000Z");

/** A time one microsecond later: what occurred before it includes what occurred at `time`. */
export function justAfter(time) {
  const micros =
    BigInt(Date.parse(`${time.slice(0, 19)}Z`)) * 1000n + BigInt(time.slice(20, 26)) + 1n;
  const seconds = new Date(Number(micros / 1_000_000n) * 1000).toISOString().slice(0, 19);
  return `${seconds}.${String(micros % 1_000_000n).padStart(6, "0")}Z`;
}

/** A name's colour: the same in every window; red is for what went wrong or is gone. */
export function colorOf(name) {
  if (colors.size > MOST_COLORS) colors.clear();
  if (!colors.has(name)) {
    const known = MEANINGS.find(([pattern]) => pattern.test(name));
    colors.set(name, known ? known[1] : OTHERS[checksum(name) % OTHERS.length]);
  }
  return colors.get(name);
}

/** The CRC-32 by which `lykke tail` chooses too. */
function checksum(text) {
  let crc = ~0;
  for (const byte of new TextEncoder().encode(text)) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = (crc >>> 1) ^ (crc & 1 ? 0xedb88320 : 0);
  }
  return ~crc >>> 0;
}

/** `key=value key=value` of a JSON value, about `room` characters; plain values come first. */
export function detailsOf(value, room = 400) {
  if (value === null || typeof value !== "object")
    return visible(shown(value, room)).slice(0, room);
  const rank = ([key, item]) =>
    (item && typeof item === "object" ? 100 : 0) + (LEADING.indexOf(key) + 1 || LEADING.length + 1);
  const parts = [];
  let length = 0;
  for (const [key, item] of Object.entries(value).sort((a, b) => rank(a) - rank(b))) {
    const part = `${visible(key.slice(0, room))}=${visible(shown(item, room))}`;
    parts.push(part);
    if ((length += part.length) > room) break;
  }
  return parts.join(" ").slice(0, room);
}

function shown(value, room) {
  if (Array.isArray(value)) return `[${value.length}]`;
  if (value && typeof value === "object") return `{${Object.keys(value).length}}`;
  if (typeof value === "number" && Math.abs(value) > Number.MAX_SAFE_INTEGER) return `≈${value}`;
  if (typeof value !== "string") return String(value);
  return value === "" || /[ "=]/.test(value.slice(0, room))
    ? JSON.stringify(value.slice(0, room))
    : value.slice(0, room);
}
