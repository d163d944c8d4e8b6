// The message field: Enter sends, Tab completes, ↑ recalls, drafts stay with their conversation.

import { completions } from './complete.js';
import { setText } from './dom.js';
import { byteLength, splitText, textRoom } from './irc.js';

const MAX_RECALLED = 50;
const MAX_HEIGHT_PX = 180;

export class Composer {
  #chat;
  #form = document.getElementById('composer');
  #field = document.getElementById('say');
  #drafts = new Map();
  #key = null;
  #sent = [];
  #recalled = -1;
  #cycle = null;

  constructor(chat) {
    this.#chat = chat;
    this.#form.addEventListener('submit', (event) => {
      event.preventDefault();
      this.#submit();
    });
    this.#field.addEventListener('keydown', (event) => this.#pressed(event));
    this.#field.addEventListener('input', () => {
      this.#cycle = null;
      this.#recalled = -1;
      this.#fit();
    });
  }

  render(state) {
    const buffer = state.buffers.get(state.active);
    if (state.active !== this.#key) {
      if (this.#key !== null) this.#drafts.set(this.#key, this.#field.value);
      const draft = this.#drafts.get(state.active) ?? '';
      this.#field.value = draft;
      this.#field.setSelectionRange(draft.length, draft.length);
      this.#key = state.active;
      this.#cycle = null;
      this.#recalled = -1;
      this.#fit();
    }
    const label = buffer.kind === 'server' ? 'Type a command, /help lists them' : `Message ${buffer.name}`;
    setText(document.getElementById('say-label'), label);
    if (this.#field.placeholder !== label) this.#field.placeholder = label;
  }

  focus() {
    this.#field.focus();
  }

  clear() {
    this.#drafts.clear();
    this.#sent = [];
    this.#key = null;
    this.#field.value = '';
  }

  #submit() {
    const text = this.#field.value;
    const key = this.#key;
    if (text.trim() === '' || !this.#chat.submit(text)) return;
    this.#sent = [text, ...this.#sent.filter((known) => known !== text)].slice(0, MAX_RECALLED);
    this.#drafts.delete(key);
    this.#recalled = -1;
    // Sending may have opened another conversation, whose draft must stay.
    if (this.#chat.state.active === key) this.#put('');
    else this.#key = null;
  }

  #pressed(event) {
    if (event.isComposing || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === 'Enter' && !event.shiftKey) {
      event.preventDefault();
      this.#submit();
    } else if (event.key === 'Tab') {
      if (this.#complete(event.shiftKey ? -1 : 1)) event.preventDefault();
    } else if (event.key === 'ArrowUp' && (this.#field.value === '' || this.#recalled >= 0)) {
      this.#recall(event, 1);
    } else if (event.key === 'ArrowDown' && this.#recalled >= 0) {
      this.#recall(event, -1);
    }
  }

  #recall(event, step) {
    const next = this.#recalled + step;
    if (next >= this.#sent.length) return;
    event.preventDefault();
    this.#put(next < 0 ? '' : this.#sent[next]);
    this.#recalled = next;
  }

  /** Completes the word at the caret; further Tabs go through the other ways. False leaves Tab to the browser. */
  #complete(step) {
    const { value, selectionStart } = this.#field;
    if (!this.#cycle || this.#cycle.shown !== value) {
      const found = completions(value, selectionStart, this.#candidates());
      if (found.length === 0) return false;
      this.#cycle = { found, at: step > 0 ? -1 : 0, shown: value };
    }
    const { found } = this.#cycle;
    const at = (this.#cycle.at + step + found.length) % found.length;
    const choice = found[at];
    this.#put(choice.text, choice.caret);
    this.#cycle = { found, at, shown: choice.text };
    return true;
  }

  /** Who spoke last comes first. */
  #candidates() {
    const { buffers, active, nick } = this.#chat.state;
    const buffer = buffers.get(active);
    const names = new Map();
    for (let at = buffer.items.length - 1; at >= 0 && names.size < 20; at -= 1) {
      const { from } = buffer.items[at];
      if (from && buffer.members.has(from.toLowerCase())) names.set(from.toLowerCase(), from);
    }
    const others = [...buffer.members.values()].map((member) => member.nick).sort();
    for (const name of others) if (!names.has(name.toLowerCase())) names.set(name.toLowerCase(), name);
    if (buffer.kind === 'direct') names.set(active, buffer.name);
    names.delete(nick.toLowerCase());
    const channels = [...buffers.values()].filter(({ kind }) => kind === 'channel').map(({ name }) => name);
    return { people: [...names.values()], channels };
  }

  #put(text, caret = text.length) {
    this.#field.value = text;
    this.#field.setSelectionRange(caret, caret);
    this.#fit();
  }

  /** Height follows the text; the hint says when it will be more than one message. */
  #fit() {
    this.#field.style.height = 'auto';
    this.#field.style.height = `${Math.min(this.#field.scrollHeight + 2, MAX_HEIGHT_PX)}px`;
    setText(document.getElementById('say-hint'), this.#hint());
  }

  #hint() {
    const { buffers, active, nick, support } = this.#chat.state;
    const text = this.#field.value;
    const buffer = buffers.get(active);
    if (!buffer || buffer.kind === 'server' || /^\/[^/]/.test(text) || (byteLength(text) < 300 && !text.includes('\n')))
      return '';
    const room = textRoom({ target: buffer.name, nick, support });
    const lines = text.split('\n').filter((line) => line.trim() !== '');
    const count = lines.reduce((sum, line) => sum + splitText(line, room).length, 0);
    return count > 1 ? `Will be sent as ${count} messages` : '';
  }
}
