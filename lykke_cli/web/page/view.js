/**
 * What is looked at, as the address bar's fragment says it: pure.
 *
 *     #user=ID&user=ID&since=2h&until=...&activity_type=TASK_*&grep=...
 *
 * The filters have the names and the meaning that they have on the command line and at the bridge.
 */
export const LISTS = ["activity_type", "exclude"];
export const SINGLE = ["entity_type", "entity_id", "grep", "not_grep", "query"];
export const RANGE = ["since", "until"];
export const UNCOUNTED = ["grep", "not_grep", "query"]; // the bridge does not count by these
export const MOST_USERS = 8; // each has a connection of its own; beyond it follow all
const UUID = /^[\da-f]{8}-?([\da-f]{4}-?){3}[\da-f]{12}$/i;

/** The view that a fragment describes; what it does not know is left out. */
export function viewOf(fragment) {
  const given = new URLSearchParams(fragment.replace(/^#/, ""));
  const users = [...new Set(given.getAll("user").filter((id) => UUID.test(id)))];
  const view = { users: users.slice(0, MOST_USERS), filters: {} };
  for (const name of LISTS) {
    const values = given.getAll(name).filter(Boolean);
    if (values.length) view.filters[name] = values;
  }
  for (const name of [...SINGLE, ...RANGE]) {
    const value = given.get(name)?.trim();
    if (value) view.filters[name] = value;
  }
  return view;
}

/** The fragment that describes a view. */
export function fragmentOf(view) {
  const users = view.users.map((id) => ["user", id]);
  return `#${new URLSearchParams([...users, ...pairsOf(view)])}`;
}

/** The filters as pairs, in one order; those `without` these names. */
export function pairsOf(view, without = []) {
  const pairs = [];
  for (const name of [...LISTS, ...SINGLE, ...RANGE])
    if (!without.includes(name))
      for (const value of [view.filters[name] ?? []].flat()) pairs.push([name, value]);
  return pairs;
}

/** The view with these filters in place of its own of the same names; an empty one goes. */
export function withFilters(view, changes) {
  const filters = { ...view.filters, ...changes };
  for (const [name, value] of Object.entries(filters)) if (!value?.length) delete filters[name];
  return { ...view, filters };
}

/** The filters' values on one line. */
export const summaryOf = (view) =>
  pairsOf(view)
    .map(([, value]) => value)
    .join(" ");
