// Follows with `lykke.js`, does what stdin says, line by line, and tells on stdout what happened.
// Its time moves only when told to, or with the option `realTime`.
// Arguments: the module's URL, options.

import { createInterface } from "node:readline";

const [module, text] = process.argv.slice(2);
const { follow } = await import(module);
const { tokens, stored, takesLists, throwsAt, realTime, ...options } = JSON.parse(text);
const say = (what, value = null) => process.stdout.write(`${JSON.stringify([what, value])}\n`);

let now = 0;
const timers = new Map();
const clock = {
  Math: { random: () => 0.5 },
  setTimeout: (call, ms) => {
    const timer = Symbol();
    timers.set(timer, { call, at: now + ms });
    return timer;
  },
  clearTimeout: (timer) => timers.delete(timer),
};

const memory = new Map();
const storage = {
  getItem: () => stored ?? null,
  setItem: (key, value) => memory.set(key, value),
  removeItem: () => say("removed"),
};

function nextToken() {
  const token = tokens.shift();
  if (token === "fails") throw new Error("no token can be had");
  return token;
}

const feed = follow({
  ...options,
  storage,
  ...(realTime ? {} : { clock }),
  ...(tokens ? { token: nextToken } : {}),
  ...(takesLists
    ? {
        onentries: (entries) => {
          say(
            "entries",
            entries.map(({ id }) => id),
          );
          if (entries.some(({ id }) => id === throwsAt)) throw new Error("it cannot be shown");
        },
      }
    : {}),
  onmessage: (message) => say("message", message),
  onstate: (state, detail) => say("state", { state, wait: detail.wait ?? null }),
  onerror: ({ code, message }) => say("problem", { code, message }),
});
const entries = feed[Symbol.asyncIterator]();

const commands = {
  take: async (count) => {
    for (let n = 0; n < count; n++) {
      const { done, value } = await entries.next();
      if (done) return say("end");
      say("entry", value.id);
    }
  },
  advance: (ms) => {
    now += ms;
    for (const [timer, { call, at }] of [...timers]) if (at <= now && timers.delete(timer)) call();
    say("advanced");
  },
  look: () => {
    const { state, exact, cursor } = feed;
    say("look", { state, exact, cursor, stored: [...memory.values()] });
  },
  close: () => feed.close(),
  broadcast: (data) => say("sent", feed.broadcast(data)),
  acknowledge: (id) => say("sent", feed.acknowledge(id, { note: "seen" })),
};
for await (const line of createInterface({ input: process.stdin })) {
  const [name, argument] = JSON.parse(line);
  Promise.resolve(commands[name](argument)).catch(({ code, message }) =>
    say("failed", { code, message }),
  );
}
process.exit();
