// The message log: draws the rows of the open conversation and keeps the reader's place in it.

import { h, reconcile, setText } from './dom.js';
import { buildRow } from './rows-view.js';
import { rows } from './timeline.js';

const NEAR_BOTTOM_PX = 60;
const NEAR_TOP_PX = 300;
const MAX_ANCHORS = 6;

export class LogView {
  #chat;
  #acts;
  #log = document.getElementById('log');
  #older = document.getElementById('older');
  #rows = document.getElementById('rows');
  #toBottom = document.getElementById('to-bottom');
  #known = new Map();
  #places = new Map();
  #key = null;
  #shown = null;
  #atBottom = true;
  #below = 0;

  constructor(chat, acts) {
    this.#chat = chat;
    this.#acts = acts;
    this.#log.addEventListener('scroll', () => this.#scrolled(), { passive: true });
    this.#toBottom.addEventListener('click', () => this.#goToBottom());
    new ResizeObserver(() => {
      if (this.#atBottom) this.#log.scrollTop = this.#log.scrollHeight;
    }).observe(this.#log);
  }

  /** Draws what changed. */
  render(state) {
    const buffer = state.buffers.get(state.active);
    const switched = state.active !== this.#key;
    if (!switched && buffer === this.#shown) return;
    this.#log.setAttribute('aria-busy', String(switched || this.#shown?.loading === 'before'));
    if (switched) this.#leave(state);
    const anchors = switched || this.#atBottom ? [] : this.#inSight();
    const count = this.#spoken(this.#shown);
    const firstKey = this.#shown?.items[0]?.key;
    if (switched || buffer.items !== this.#shown?.items || buffer.marker !== this.#shown?.marker) {
      reconcile(this.#rows, this.#known, rows(buffer.items, { marker: buffer.marker }), (row) => this.#build(row));
    }
    this.#drawOlder(buffer, state);
    const prepended = !switched && firstKey !== undefined && buffer.items[0]?.key !== firstKey;
    if (switched) this.#restorePlace(buffer);
    else if (this.#atBottom || this.#wroteJustNow(buffer)) this.#log.scrollTop = this.#log.scrollHeight;
    else this.#keepInPlace(anchors);
    if (!switched && !this.#atBottom && !prepended) this.#below += Math.max(0, this.#spoken(buffer) - count);
    this.#key = state.active;
    this.#shown = buffer;
    this.#drawToBottom();
    this.#loadMore();
  }

  /** Forgets everything drawn, for another session. */
  clear() {
    this.#rows.replaceChildren();
    this.#known.clear();
    this.#places.clear();
    this.#key = null;
    this.#shown = null;
    this.#atBottom = true;
  }

  page(direction) {
    this.#log.scrollBy({ top: direction * this.#log.clientHeight * 0.85 });
  }

  #build(row) {
    const element = buildRow(row, this.#acts);
    element.dataset.row = row.key;
    return element;
  }

  /** The first rows that the reader sees, and where they stand; not dividers, which move when older rows come. */
  #inSight() {
    const top = this.#log.scrollTop;
    const rows = [...this.#rows.children];
    const first = rows.findIndex((element) => element.offsetTop + element.offsetHeight > top);
    return rows
      .slice(Math.max(first, 0), first + MAX_ANCHORS)
      .filter((element) => !element.classList.contains('divider'))
      .map((element) => ({ key: element.dataset.row, offset: element.offsetTop - top }));
  }

  #keepInPlace(anchors) {
    const kept = anchors.find(({ key }) => this.#known.has(key));
    if (kept) this.#log.scrollTop = this.#known.get(kept.key).element.offsetTop - kept.offset;
  }

  #leave(state) {
    if (this.#key !== null) this.#places.set(this.#key, this.#atBottom ? null : this.#log.scrollTop);
    for (const key of this.#places.keys()) if (!state.buffers.has(key)) this.#places.delete(key);
    this.#rows.replaceChildren();
    this.#known.clear();
    this.#below = 0;
  }

  #restorePlace(buffer) {
    const place = this.#places.get(this.#chat.state.active);
    const marker = buffer.marker === '' ? null : this.#rows.querySelector('.marker');
    if (marker) this.#log.scrollTop = marker.offsetTop - this.#log.clientHeight / 3;
    else this.#log.scrollTop = place ?? this.#log.scrollHeight;
    this.#measure();
  }

  /** True when the last change was the person's own message. */
  #wroteJustNow(buffer) {
    const last = buffer.items.at(-1);
    return last?.self === true && last.state === 'pending' && last.key !== this.#shown?.items.at(-1)?.key;
  }

  #spoken(buffer) {
    return buffer?.items.filter((item) => item.from).length ?? 0;
  }

  #scrolled() {
    this.#measure();
    this.#drawToBottom();
    this.#loadMore();
  }

  #measure() {
    const { scrollTop, scrollHeight, clientHeight } = this.#log;
    this.#atBottom = scrollHeight - scrollTop - clientHeight < NEAR_BOTTOM_PX;
    if (this.#atBottom) this.#below = 0;
  }

  #goToBottom() {
    this.#log.scrollTop = this.#log.scrollHeight;
    this.#log.focus();
  }

  #drawToBottom() {
    this.#toBottom.hidden = this.#atBottom;
    const text = this.#below === 0 ? 'Latest' : `${this.#below} new ${this.#below === 1 ? 'message' : 'messages'}`;
    setText(document.getElementById('to-bottom-text'), text);
  }

  #loadMore() {
    if (this.#log.scrollTop < NEAR_TOP_PX && this.#key !== null) this.#chat.loadOlder(this.#key);
  }

  #drawOlder(buffer, state) {
    if (buffer.loading !== '') this.#older.replaceChildren(h('p', { class: 'loading' }, 'Loading earlier messages…'));
    else if (buffer.items.length === 0) this.#older.replaceChildren(emptyText(buffer, state));
    else if (buffer.end === 'reached')
      this.#older.replaceChildren(h('p', { class: 'beginning' }, beginningText(buffer)));
    else this.#older.replaceChildren();
  }
}

function beginningText({ kind, name }) {
  return kind === 'direct'
    ? `This is the beginning of your talk with ${name}.`
    : `This is the beginning of ${name}, as far as it is kept.`;
}

function emptyText(buffer, { status }) {
  const [title, text] = {
    server: ['Nothing yet', 'What the server says appears here.'],
    direct: [`You and ${buffer.name}`, 'Nothing said yet. Only the two of you can read this.'],
    channel: buffer.joined
      ? [`Welcome to ${buffer.name}`, 'Nothing said yet. Write the first message below.']
      : [
          buffer.name,
          status.phase === 'online' ? 'You are not in this channel.' : 'Joining as soon as the connection stands.',
        ],
  }[buffer.kind];
  return h('div', { class: 'empty' }, h('h2', {}, title), h('p', {}, text));
}
