// Messages on their way: each has an id that the server remembers, so sending it again is safe. Pure.

const MAX_WAITING = 100;
const RETRY_FIRST_MS = 2_000;
const RETRY_MAX_MS = 30_000;

export class Outbox {
  #entries = new Map();
  #nextId;
  #retries = 0;

  /** Continues what `Memory` kept. */
  constructor({ nextId = 1, outbox = [] } = {}) {
    this.#nextId = nextId;
    for (const entry of outbox) this.#entries.set(entry.id, entry);
  }

  get nextId() {
    return this.#nextId;
  }

  get full() {
    return this.#entries.size >= MAX_WAITING;
  }

  all() {
    return [...this.#entries.values()];
  }

  get(id) {
    return this.#entries.get(id);
  }

  /** A new message in state `pending`; `kind` is `privmsg`, `notice` or `action`. */
  add({ target, kind, text, time }) {
    const entry = { id: this.#nextId, target, kind, text, time, state: 'pending', tried: false };
    this.#nextId += 1;
    this.#entries.set(entry.id, entry);
    return entry;
  }

  remove(id) {
    const entry = this.#entries.get(id);
    this.#entries.delete(id);
    return entry;
  }

  acknowledge(id) {
    this.#retries = 0;
    return this.remove(id);
  }

  /** The server will not take it; it stays until it is sent anew or thrown away. */
  fail(id, reason) {
    return this.#change(id, { state: 'failed', reason });
  }

  /** The server could not say or not now; it is to be sent again under the same id. */
  postpone(id, reason) {
    return this.#change(id, { state: 'waiting', reason });
  }

  /** How long until the next attempt of what was postponed. */
  nextRetryMs() {
    const delay = Math.min(RETRY_MAX_MS, RETRY_FIRST_MS * 2 ** this.#retries);
    this.#retries += 1;
    return delay;
  }

  /** What is to be sent, in the order it was written. */
  unsent() {
    return this.all().filter((entry) => entry.state === 'pending' || entry.state === 'waiting');
  }

  markTried(id) {
    return this.#change(id, { tried: true, state: 'pending', reason: '' });
  }

  /**
   * The old session is lost, and its ids with it: what was sent without an answer may or may not have
   * arrived, so only the person can decide. Returns these entries.
   */
  startNewSession() {
    const unsure = this.unsent().filter((entry) => entry.tried);
    return unsure.map((entry) =>
      this.#change(entry.id, {
        state: 'unsure',
        reason: 'The connection was lost before the room confirmed this message. It may have arrived.',
      }),
    );
  }

  /** The first message to `target` that was sent and not answered, for servers that do not label answers. */
  oldestTo(target) {
    return this.unsent().find((entry) => entry.tried && entry.target.toLowerCase() === target.toLowerCase());
  }

  #change(id, changes) {
    const entry = this.#entries.get(id);
    if (!entry) return undefined;
    const changed = { ...entry, ...changes };
    this.#entries.set(id, changed);
    return changed;
  }
}

/** The line of a message. */
export function messageLine(entry, caps) {
  const tags = {};
  if (caps.has('chatroom.dev/id')) tags['chatroom.dev/id'] = String(entry.id);
  if (caps.has('labeled-response')) tags.label = `m${entry.id}`;
  const text = entry.kind === 'action' ? `\x01ACTION ${entry.text}\x01` : entry.text;
  return { tags, command: entry.kind === 'notice' ? 'NOTICE' : 'PRIVMSG', params: [entry.target, text] };
}

/** The id of the own message that a line answers, or 0. */
export function answeredId({ tags }, label) {
  const tagged = Number(tags['chatroom.dev/id'] ?? 0);
  if (Number.isSafeInteger(tagged) && tagged > 0) return tagged;
  return /^m\d+$/.test(label) ? Number(label.slice(1)) : 0;
}
