// The items of one conversation: appending, merging history, marking gaps, and grouping them into rows. Pure.

const MAX_LIVE_ITEMS = 3_000;
const TRIM_TO_ITEMS = 2_500;
/** How far scrolling back may load before the page asks no more. */
export const MAX_LOADED_ITEMS = 10_000;
const GROUP_MS = 5 * 60_000;
const PRESENCE = new Set(['join', 'part', 'quit', 'nick']);
const SPOKEN = new Set(['message', 'notice', 'action']);
const NAMES_SHOWN = 4;

/** `items` with one more at its place; the same list when it is already there. */
export function append(items, item) {
  if (items.some((known) => same(known, item))) return items;
  let at = items.length;
  if (!underWay(item)) while (at > 0 && underWay(items[at - 1])) at -= 1;
  return [...items.slice(0, at), item, ...items.slice(at)];
}

/** Drops the oldest where live lines made the list too long; `[items, dropped]`. */
export function trim(items) {
  if (items.length <= MAX_LIVE_ITEMS) return [items, false];
  return [items.slice(items.length - TRIM_TO_ITEMS), true];
}

export function replaceItem(items, key, change) {
  return items.map((item) => (item.key === key ? { ...item, ...change } : item));
}

/**
 * Merges a batch of older items (in their order) into `items` (in theirs). With `latest`, a batch that does not
 * reach back to what is already here leaves a gap mark between the two. With `gap`, the key of a mark, the batch
 * was asked for to fill it: the mark goes when the batch reaches what is before it, and becomes final when there
 * was nothing to fill it with.
 */
export function mergeHistory(items, batch, { latest = false, gap = '' } = {}) {
  const known = new Set(items.map((item) => item.msgid).filter(Boolean));
  const fresh = batch.filter((item) => !known.has(item.msgid));
  if (gap !== '') return fillGap(merge(items, fresh), batch, fresh, gap);
  if (fresh.length === 0) return items;
  const lastKnown = items.findLast((item) => item.kind === 'gap' || (item.msgid && SPOKEN.has(item.kind)));
  const apart = latest && lastKnown?.msgid && fresh.length === batch.length && !isBefore(fresh[0], lastKnown);
  return merge(items, apart ? [gapItem(`gap:${fresh[0].key}`, lastKnown.time, ''), ...fresh] : fresh);
}

function fillGap(items, batch, fresh, gap) {
  const at = items.findIndex((item) => item.key === gap);
  const before = new Set(
    items
      .slice(0, Math.max(at, 0))
      .map((item) => item.msgid)
      .filter(Boolean),
  );
  if (batch.some((item) => before.has(item.msgid))) return items.filter((item) => item.key !== gap);
  return fresh.length === 0 ? replaceItem(items, gap, { final: true }) : items;
}

function merge(items, older) {
  const merged = [];
  let next = 0;
  for (const item of items) {
    while (next < older.length && isBefore(older[next], item)) merged.push(older[next++]);
    merged.push(item);
  }
  return [...merged, ...older.slice(next)];
}

export function gapItem(key, time, oldest) {
  return { key, kind: 'gap', time, oldest };
}

function same(known, item) {
  return (
    known.key === item.key ||
    (item.msgid !== undefined &&
      item.msgid !== '' &&
      known.msgid === item.msgid &&
      SPOKEN.has(known.kind) &&
      SPOKEN.has(item.kind))
  );
}

/** Own messages that wait for the server stand last, wherever the others are put. */
function underWay(item) {
  return item.state === 'pending' || item.state === 'waiting';
}

function isBefore(older, item) {
  if (underWay(item)) return true;
  const [a, b] = [position(older.msgid), position(item.msgid)];
  if (a && b && a.stream === b.stream) return a.number < b.number;
  if (older.time !== item.time) return older.time < item.time;
  return older.kind !== 'gap' && item.kind !== 'gap';
}

function position(msgid) {
  const match = /^(.+)-(\d+)$/.exec(msgid ?? '');
  return match ? { stream: match[1], number: Number(match[2]) } : null;
}

/**
 * Rows to show: `{ key, kind, stamp, ... }`. Equal `stamp` means nothing to draw anew. Days and the line where
 * reading stopped become rows of their own; comings and goings in a row become one.
 */
export function rows(items, { marker = '', dayOf = localDay } = {}) {
  const shown = [];
  let day = '';
  let before = null;
  let markNext = false;
  for (let at = 0; at < items.length; at += 1) {
    const item = items[at];
    const itsDay = dayOf(item.time);
    if (itsDay !== day) {
      shown.push({ key: `day:${itsDay}`, kind: 'day', stamp: itsDay, time: item.time });
      [day, before] = [itsDay, null];
    }
    if (markNext && SPOKEN.has(item.kind)) {
      shown.push({ key: 'marker', kind: 'marker', stamp: item.key, time: item.time });
      [markNext, before] = [false, null];
    }
    if (PRESENCE.has(item.kind)) {
      let end = at;
      while (end + 1 < items.length && joinsGroup(items[end + 1], itsDay, dayOf) && items[end].key !== marker) end += 1;
      const group = items.slice(at, end + 1);
      shown.push(presenceRow(group));
      before = null;
      at = end;
    } else {
      const head = !(before && continues(before, item));
      shown.push({ key: item.key, kind: item.kind, item, head, stamp: stamp(item, head), time: item.time });
      before = SPOKEN.has(item.kind) ? item : null;
    }
    if (marker !== '' && items[at].key === marker) markNext = true;
  }
  return shown;
}

function joinsGroup(item, day, dayOf) {
  return PRESENCE.has(item.kind) && dayOf(item.time) === day;
}

function presenceRow(group) {
  const [first, last] = [group[0], group.at(-1)];
  const { text, full } = presenceText(group);
  return { key: first.key, kind: 'presence', text, full, time: last.time, stamp: `${last.key} ${group.length}` };
}

function continues(before, item) {
  return (
    item.kind === 'message' &&
    before.kind === 'message' &&
    before.from === item.from &&
    before.to === item.to &&
    item.time - before.time < GROUP_MS
  );
}

function stamp(item, head) {
  return [item.kind, head, item.state ?? '', item.final ?? '', item.reason ?? '', item.text ?? '', item.time].join(
    '\u0000',
  );
}

/** One sentence for several comings and goings. `full` names everybody. */
export function presenceText(group) {
  const journeys = new Map();
  const renames = [];
  const notes = new Map();
  for (const { kind, who, now, reason } of group) {
    if (kind === 'nick') {
      renames.push(`${who} is now ${now}`);
      if (journeys.has(who)) {
        journeys.set(now, journeys.get(who));
        journeys.delete(who);
      }
      continue;
    }
    const step = kind === 'join' ? 'in' : 'out';
    journeys.set(who, [...(journeys.get(who) ?? []), step]);
    if (kind !== 'join' && reason) notes.set(who, reason);
  }
  const lists = { joined: [], left: [], 'came and went': [], 'left and came back': [] };
  for (const [who, steps] of journeys) lists[journeyName(steps)].push(who);
  const sentence = (limit) =>
    Object.entries(lists)
      .filter(([, people]) => people.length > 0)
      .map(([verb, people]) => `${peopleText(people, limit)} ${verb}`)
      .concat(renames.length > limit ? [`${renames.length} people changed their names`] : renames)
      .join(' · ');
  const single = group.length === 1 ? notes.get(group[0].who) : undefined;
  const text = sentence(NAMES_SHOWN);
  return { text: single ? `${text} (${single})` : text, full: sentence(Infinity) };
}

function journeyName(steps) {
  const [first, last] = [steps[0], steps.at(-1)];
  if (first === last) return first === 'in' ? 'joined' : 'left';
  return first === 'in' ? 'came and went' : 'left and came back';
}

function peopleText(people, limit) {
  if (people.length === 1) return people[0];
  if (people.length <= limit) return `${people.slice(0, -1).join(', ')} and ${people.at(-1)}`;
  return `${people.slice(0, limit - 1).join(', ')} and ${people.length - limit + 1} others`;
}

function localDay(time) {
  const date = new Date(time);
  return `${date.getFullYear()}-${date.getMonth() + 1}-${date.getDate()}`;
}
