/** The arithmetic of a list of rows of one height, of which only those in sight are drawn: pure. */

const BESIDE = 4; // rows above and below that are drawn too: before the next frame one may scroll

/** The rows that are drawn: from `first` to before `last`. */
export function drawn({ top, height, rowHeight, total }) {
  const most = Math.max(0, total * rowHeight - height);
  const from = Math.min(Math.max(0, top), most);
  const first = Math.max(0, Math.floor(from / rowHeight) - BESIDE);
  return { first, last: Math.min(total, Math.ceil((from + height) / rowHeight) + BESIDE) };
}

/** Whether the last row is in sight, or nearly. */
export const isAtEnd = ({ top, height, rowHeight, total }) =>
  top + height >= total * rowHeight - rowHeight / 2;

/** Where to scroll so that row `index` is in sight, as little as that takes. */
export function topFor(index, { top, height, rowHeight }) {
  const start = index * rowHeight;
  if (start < top) return start;
  return start + rowHeight > top + height ? start + rowHeight - height : top;
}
