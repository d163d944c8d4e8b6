// Follows BATCH: history is collected and handed over whole, everything else passes at once with its context.

const MAX_OPEN = 64;
const MAX_LINES = 5_000;
const HISTORY = 'chathistory';
const RESUME = 'chatroom.dev/resume';

export class Batches {
  #open = new Map();

  /**
   * Takes one parsed line and returns what it completes, or null while a history batch is still open:
   * `{ kind: 'line', message, label, replay }`, `{ kind: 'history', target, messages, label }` or
   * `{ kind: 'replayEnd' }`. `label` is the one of the line or of a batch around it.
   */
  accept(message) {
    if (message.command === 'BATCH') return this.#mark(message);
    const around = this.#around(message.tags.batch);
    const history = around.find((batch) => batch.type === HISTORY);
    if (history) {
      if (history.messages.length < MAX_LINES) history.messages.push(message);
      return null;
    }
    return {
      kind: 'line',
      message,
      label: message.tags.label ?? around.find((batch) => batch.label)?.label ?? '',
      replay: around.some((batch) => batch.type === RESUME),
    };
  }

  #mark(message) {
    const [reference = '', type = '', ...params] = message.params;
    const name = reference.slice(1);
    if (reference.startsWith('+')) {
      if (this.#open.size >= MAX_OPEN) this.#open.delete(this.#open.keys().next().value);
      const parent = message.tags.batch ?? '';
      const label = message.tags.label ?? this.#around(parent).find((batch) => batch.label)?.label ?? '';
      this.#open.set(name, { type: type.toLowerCase(), params, label, parent, messages: [] });
      return null;
    }
    const batch = this.#open.get(name);
    this.#open.delete(name);
    if (batch?.type === HISTORY) {
      return { kind: 'history', target: batch.params[0] ?? '', messages: batch.messages, label: batch.label };
    }
    return batch?.type === RESUME ? { kind: 'replayEnd' } : null;
  }

  /** The batches a line is in, innermost first. */
  #around(reference) {
    const found = [];
    let name = reference ?? '';
    while (name !== '' && found.length < MAX_OPEN) {
      const batch = this.#open.get(name);
      if (!batch) break;
      found.push(batch);
      name = batch.parent;
    }
    return found;
  }
}
