// What was asked of the server, so that its answers find their way: labels, and the lines of larger requests. Pure.

const MAX_OPEN = 200;
const HISTORY_LINES = 50;
const JOIN_BYTES = 380;

/** Labels of requests under way, each with its purpose: `{ origin }` or `{ history: { key, mode, gap } }`. */
export class Requests {
  #open = new Map();
  #serial = 0;

  /** The message with a label of its own. */
  label(message, purpose) {
    this.#serial += 1;
    const label = `r${this.#serial}`;
    this.#open.set(label, purpose);
    if (this.#open.size > MAX_OPEN) this.#open.delete(this.#open.keys().next().value);
    return { ...message, tags: { ...message.tags, label } };
  }

  /** The purpose of what a line answers; one request may be answered by several lines. */
  look(label) {
    return this.#open.get(label) ?? {};
  }

  /** The same, and no further answer is expected. */
  take(label) {
    const purpose = this.look(label);
    this.#open.delete(label);
    return purpose;
  }

  clear() {
    this.#open.clear();
  }
}

/** Asks for what was said in `target` before `reference` (`msgid=…`), or with `*` for the latest. */
export function historyLine(target, reference, support) {
  const limit = Math.min(HISTORY_LINES, Number(support.CHATHISTORY) || HISTORY_LINES);
  const params = [reference === '*' ? 'LATEST' : 'BEFORE', target, reference, String(limit)];
  return { command: 'CHATHISTORY', params };
}

/** Names joined by commas, in as few lines as fit. */
export function joinLists(names) {
  const lists = [];
  for (const name of names) {
    const last = lists.at(-1) ?? '';
    if (last !== '' && last.length + name.length < JOIN_BYTES) lists[lists.length - 1] = `${last},${name}`;
    else lists.push(name);
  }
  return lists;
}
