/** Ranges of time made of bars: pure. */

/** The filters of a choice of bars; to the newest where it has the last one, and no end is given. */
export function rangeOf(counts, [from, to], until) {
  const first = counts[Math.min(from, to)];
  const last = Math.max(from, to);
  const isOpen = last === counts.length - 1 && !until;
  return { since: first.from, until: isOpen ? "" : counts[last].to };
}

/** A bar in words. */
export function spanText(counts, index) {
  const { from, to, total } = counts[index];
  const hasOtherDay = from.slice(0, 10) !== to.slice(0, 10);
  const end = `${hasOtherDay ? `${to.slice(0, 10)} ` : ""}${to.slice(11, 19)}`;
  const entries = total === 1 ? "1 entry" : `${total.toLocaleString("en")} entries`;
  return `${from.slice(0, 10)} ${from.slice(11, 19)} to ${end}: ${entries}`;
}
