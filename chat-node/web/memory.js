// What this tab must know after a reload: the resume token, how far it has seen each stream, its open
// conversations and its unacknowledged messages. Kept in sessionStorage only, so it ends with the tab.

const KEY = 'chatroom.session';
const MAX_STREAMS = 256;

function emptyRecord() {
  return {
    tab: '',
    nick: '',
    token: '',
    previousToken: '',
    positions: {},
    support: null,
    channels: [],
    directs: [],
    active: '',
    nextId: 1,
    outbox: [],
  };
}

export class Memory {
  #storage;
  #dirty = false;

  /** `storage` is a Storage, or null where the browser refuses one; then a reload simply starts anew. */
  constructor(storage) {
    this.#storage = storage;
    this.record = { ...emptyRecord(), ...this.#read() };
  }

  /** True when there is a session that a new connection may resume. */
  get resumable() {
    return this.record.token !== '';
  }

  /** Changes that must survive even a crash of the tab: tokens and message ids. */
  update(changes) {
    Object.assign(this.record, changes);
    this.save();
  }

  /**
   * A token came, in exchange for the one that was `shown`. That one is kept: an attempt that was given up may still
   * reach the server, and then it is the good one.
   */
  takeToken(token, shown) {
    this.update({ token, previousToken: shown });
  }

  /** The server knows that the token came. */
  confirmToken() {
    if (this.record.previousToken !== '') this.update({ previousToken: '' });
  }

  /** Notes the last msgid seen of its stream. Written by the next `save`; an older note only replays more. */
  see(msgid) {
    const dash = msgid.lastIndexOf('-');
    if (dash <= 0) return;
    const stream = msgid.slice(0, dash);
    const { positions } = this.record;
    if (positions[stream] === msgid) return;
    delete positions[stream];
    positions[stream] = msgid;
    const streams = Object.keys(positions);
    if (streams.length > MAX_STREAMS) delete positions[streams[0]];
    this.#dirty = true;
  }

  /** The server lost what it had from this msgid on: of its stream nothing from there on was seen. */
  forgetFrom(msgid) {
    const [, stream, number] = /^(.+)-(\d+)$/.exec(msgid) ?? [];
    const seen = Number((this.record.positions[stream] ?? '').slice(`${stream}-`.length));
    if (seen >= Number(number)) this.see(`${stream}-${Number(number) - 1}`);
  }

  /** The last msgid of each stream, least recently changed first. */
  get seen() {
    return Object.values(this.record.positions);
  }

  saveIfChanged() {
    if (this.#dirty) this.save();
  }

  save() {
    this.#dirty = false;
    try {
      this.#storage?.setItem(KEY, JSON.stringify(this.record));
    } catch {
      // Full or refused storage costs only the resume after a reload.
    }
  }

  /** The session is over on the server, the conversations stay to be joined again. */
  forgetToken() {
    this.update({ token: '', previousToken: '', positions: {} });
  }

  /** The person left: of the session only the tab's own name stays. */
  clear() {
    this.record = { ...emptyRecord(), tab: this.record.tab };
    this.save();
  }

  #read() {
    try {
      const stored = JSON.parse(this.#storage?.getItem(KEY) ?? '{}');
      return stored !== null && typeof stored === 'object' ? stored : {};
    } catch {
      return {};
    }
  }
}
