/** Which key does what: pure. */

export const KEYS = [
  ["↑ ↓", "k j", "Select an entry"],
  ["Enter", "", "Show it whole"],
  ["Esc", "", "Close what is open"],
  ["Page ↑ ↓", "Space", "Scroll"],
  ["Home", "g", "To the beginning of history"],
  ["End", "G", "To the newest, and follow"],
  ["/", "", "Find: filters and the range of time"],
  ["u", "", "Choose users"],
  ["s", "", "Send a test message"],
  ["e", "", "Keep the shown range as a file"],
  ["?", "", "This help"],
];
const COMMANDS = {
  End: "follow",
  G: "follow",
  Home: "beginning",
  g: "beginning",
  j: "next",
  k: "previous",
  "/": "find",
  u: "users",
  s: "send",
  e: "keep",
  "?": "help",
  Escape: "close",
};

/** The command of a key that was pressed; none while somebody types, or for the browser's own. */
export function commandOf({ key, ctrlKey, metaKey, altKey, target }) {
  if (ctrlKey || metaKey || altKey) return undefined;
  const isTyping = /^(INPUT|TEXTAREA|SELECT)$/.test(target?.tagName);
  const isList = target?.getAttribute?.("role") === "listbox"; // it has keys of its own
  if (key !== "Escape" && (isTyping || (isList && key.length > 1))) return undefined;
  return COMMANDS[key];
}
