// One conversation – a channel, a direct talk, the server's own page – inside the state, and adding to it. Pure.

import { fold, isChannel } from './irc.js';
import { append, trim } from './timeline.js';

/** Key of the conversation that shows what the server itself says. */
export const SERVER = '*';

/**
 * `loading` is the kind of history that was asked for, or empty. `end` says why no older history can be loaded:
 * `reached` its beginning, `none` is offered, or empty when there may be more. `seen` is the key of the last item
 * that was on the screen, `marker` that item while the line for new messages stands behind it.
 */
export function newBuffer(name, kind) {
  return {
    name,
    kind,
    joined: kind !== 'channel',
    rejoin: false,
    topic: '',
    topicBy: '',
    members: new Map(),
    incoming: null,
    away: '',
    items: [],
    loading: '',
    end: kind === 'server' ? 'none' : '',
    unread: 0,
    mentions: 0,
    seen: '',
    marker: '',
  };
}

export function keyOf(name) {
  return fold(name);
}

/** `state` with one conversation changed; unchanged when there is none of that key. */
export function withBuffer(state, key, change) {
  const buffer = state.buffers.get(key);
  if (!buffer) return state;
  const changed = change(buffer);
  if (changed === buffer) return state;
  return { ...state, buffers: new Map(state.buffers).set(key, changed) };
}

export function ensureBuffer(state, name) {
  const key = keyOf(name);
  if (state.buffers.has(key)) return state;
  const kind = isChannel(name, state.support) ? 'channel' : 'direct';
  return { ...state, buffers: new Map(state.buffers).set(key, newBuffer(name, kind)) };
}

/**
 * Adds an item to a conversation. With `counts` it makes an unseen conversation unread, with `mention` it is
 * counted as meant for this person.
 */
export function addItem(state, key, item, { counts = false, mention = false } = {}) {
  const buffer = state.buffers.get(key);
  if (!buffer) return state;
  const named = item.key ? item : { ...item, key: `i${state.serial}` };
  const items = append(buffer.items, named);
  if (items === buffer.items) return state;
  const [kept, dropped] = trim(items);
  const seen = key === state.active && state.visible;
  const changed = {
    ...buffer,
    items: kept,
    end: dropped && buffer.end === 'reached' ? '' : buffer.end,
    unread: counts && !seen ? buffer.unread + 1 : buffer.unread,
    mentions: mention && !seen ? buffer.mentions + 1 : buffer.mentions,
    seen: seen ? named.key : buffer.seen,
  };
  return { ...state, serial: state.serial + 1, buffers: new Map(state.buffers).set(key, changed) };
}
