// Keys that work everywhere on the page.

import { conversationOrder } from './state.js';

export class Keyboard {
  #parts;

  constructor(parts) {
    this.#parts = parts;
    document.addEventListener('keydown', (event) => this.#pressed(event));
  }

  #pressed(event) {
    const { dialogs, drawers, composer, log } = this.#parts;
    if (document.getElementById('room').hidden) return;
    if ((event.ctrlKey || event.metaKey) && !event.altKey && event.key.toLowerCase() === 'k') {
      event.preventDefault();
      dialogs.closeAll();
      dialogs.switcher();
    } else if (dialogs.open) {
      return;
    } else if (event.altKey && (event.key === 'ArrowUp' || event.key === 'ArrowDown')) {
      event.preventDefault();
      this.#step(event.key === 'ArrowDown' ? 1 : -1, event.shiftKey);
    } else if (event.key === 'Escape') {
      if (drawers.open) drawers.close();
      else composer.focus();
    } else if (event.key === 'PageUp' || event.key === 'PageDown') {
      if (event.target !== document.getElementById('say')) return;
      event.preventDefault();
      log.page(event.key === 'PageDown' ? 1 : -1);
    }
  }

  #step(by, unreadOnly) {
    const { chat } = this.#parts;
    const order = conversationOrder(chat.state);
    const from = order.indexOf(chat.state.active);
    for (let step = 1; step <= order.length; step += 1) {
      const key = order[(from + by * step + order.length * 2) % order.length];
      if (unreadOnly && chat.state.buffers.get(key).unread === 0) continue;
      chat.select(key);
      return;
    }
  }
}
