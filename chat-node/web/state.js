// Everything the page shows, as one value, and how events change it. Pure: equal events give equal states, and
// what did not change keeps its identity, so that the view can skip it.

import { defaultSupport, statusTarget } from './irc.js';
import { SERVER, addItem, ensureBuffer, keyOf, newBuffer, withBuffer } from './conversations.js';
import { applyLine, historyItem } from './lines.js';
import { gapItem, mergeHistory, replaceItem } from './timeline.js';

export function initialState() {
  return {
    status: { phase: 'idle' },
    nick: '',
    away: false,
    caps: new Set(),
    support: defaultSupport(),
    buffers: new Map([[SERVER, newBuffer(SERVER, 'server')]]),
    active: SERVER,
    visible: true,
    list: { loading: false, channels: [] },
    whois: new Map(),
    asked: new Set(),
    serial: 0,
  };
}

/** The network's name, or a neutral word for it. */
export function networkName(state) {
  return state.support.NETWORK || 'Chat';
}

/** The new state after one event. */
export function reduce(state, event) {
  switch (event.type) {
    case 'status':
      return withStatus(state, event.status);
    case 'wanted':
      return want(state, event.channels);
    case 'restored':
      return restore(state, event);
    case 'identity':
      return { ...state, nick: event.nick, caps: event.caps ?? state.caps };
    case 'sessionLost':
      return forgetMembership(state);
    case 'line':
      return applyLine(state, event);
    case 'historyAsked':
      return withBuffer(state, event.key, (buffer) => ({ ...buffer, loading: event.mode }));
    case 'history':
      return withHistory(state, event);
    case 'historyRefused':
      return withBuffer(state, event.key, (buffer) => ({ ...buffer, loading: '', end: event.final ? 'none' : '' }));
    case 'gap':
      return withGap(state, event);
    case 'outgoing':
      return withOutgoing(state, event.entry);
    case 'outcome':
      return withOutcome(state, event);
    case 'discarded':
      return withBuffer(state, keyOf(event.target), (buffer) => ({
        ...buffer,
        items: buffer.items.filter((item) => item.key !== `out:${event.id}`),
      }));
    case 'note':
      return addItem(state, event.key ?? state.active, {
        kind: event.kind,
        text: event.text,
        lines: event.lines,
        time: event.now,
      });
    case 'asked':
      return { ...state, asked: new Set(state.asked).add(event.what) };
    case 'listing':
      return { ...state, list: { loading: true, channels: [] } };
    case 'opened':
      return select(ensureBuffer(state, event.name), keyOf(event.name));
    case 'selected':
      return select(state, event.key);
    case 'closed':
      return close(state, event.key);
    case 'visible':
      return setVisible(state, event.visible);
    default:
      throw new Error(`unknown event ${event.type}`);
  }
}

function withStatus(state, status) {
  const next = { ...state, status };
  if (status.phase === 'online' || status.phase === 'moving') return next;
  // Answers to what was asked over the lost connection will not come.
  const buffers = new Map(
    [...state.buffers].map(([key, buffer]) => [key, buffer.loading === '' ? buffer : { ...buffer, loading: '' }]),
  );
  return { ...next, buffers, list: { ...state.list, loading: false }, asked: new Set() };
}

/** Channels that are going to be joined as soon as there is a session. */
function want(state, channels) {
  const next = channels.reduce(
    (known, name) =>
      withBuffer(ensureBuffer(known, name), keyOf(name), (buffer) => ({ ...buffer, rejoin: !buffer.joined })),
    state,
  );
  return channels.length > 0 ? select(next, keyOf(channels[0])) : next;
}

function restore(state, { nick, support, channels, directs, active, outbox }) {
  let next = { ...state, nick, support: support ?? state.support };
  for (const name of [...channels, ...directs]) next = ensureBuffer(next, name);
  for (const name of channels) next = withBuffer(next, keyOf(name), (buffer) => ({ ...buffer, joined: true }));
  for (const entry of outbox) next = withOutgoing(next, entry);
  return next.buffers.has(active) ? select(next, active) : next;
}

/** The server knows nothing of us any more: the channels stay open, to be joined anew. */
function forgetMembership(state) {
  const buffers = new Map(
    [...state.buffers].map(([key, buffer]) => {
      if (buffer.kind !== 'channel') return [key, buffer];
      return [key, { ...buffer, joined: false, rejoin: buffer.joined || buffer.rejoin, members: new Map() }];
    }),
  );
  return { ...state, away: false, buffers };
}

function withHistory(state, { key, messages, mode, gap = '', now }) {
  return withBuffer(state, key, (buffer) => {
    const batch = messages.map((message) => historyItem(state, message, now)).filter(Boolean);
    const items = mergeHistory(buffer.items, batch, { latest: mode === 'latest', gap });
    const seen = buffer.seen || (key === state.active ? (items.at(-1)?.key ?? '') : '');
    return { ...buffer, items, seen, loading: '', end: messages.length === 0 && gap === '' ? 'reached' : buffer.end };
  });
}

/**
 * The conversations that a gap of `target` is about: a channel, or for the own nick all direct ones – and the
 * server's page, because whoever else wrote has no conversation here yet.
 */
export function gapKeys(state, target) {
  if (keyOf(target) !== keyOf(state.nick)) return [keyOf(target)];
  return conversationOrder(state).filter((key) => state.buffers.get(key).kind !== 'channel');
}

function withGap(state, { target, oldest, now }) {
  return gapKeys(state, target).reduce((next, key) => {
    const last = next.buffers.get(key)?.items.at(-1);
    const gap = gapItem(`gap:${oldest || now}`, last?.time ?? now, oldest);
    return addItem(next, key, key === SERVER ? { ...gap, final: true } : gap);
  }, state);
}

function withOutgoing(state, entry) {
  const next = ensureBuffer(state, entry.target);
  return addItem(next, keyOf(entry.target), {
    key: `out:${entry.id}`,
    kind: entry.kind === 'privmsg' ? 'message' : entry.kind,
    from: state.nick,
    self: true,
    to: statusTarget(entry.target, state.support).sign,
    text: entry.text,
    time: entry.time,
    state: entry.state,
    reason: entry.reason ?? '',
    id: entry.id,
  });
}

function withOutcome(state, { id, target, outcome, reason = '', msgid = '' }) {
  return withBuffer(state, keyOf(target), (buffer) => {
    const arrived = msgid !== '' && buffer.items.some((item) => item.msgid === msgid);
    if (arrived) return { ...buffer, items: buffer.items.filter((item) => item.key !== `out:${id}`) };
    const change = { state: outcome, reason, ...(msgid === '' ? {} : { msgid }) };
    return { ...buffer, items: replaceItem(buffer.items, `out:${id}`, change) };
  });
}

function select(state, key) {
  if (!state.buffers.has(key) || key === state.active) return state;
  const left = withBuffer(state, state.active, markSeen);
  const shown = withBuffer(left, key, state.visible ? markOpened : (buffer) => buffer);
  return { ...shown, active: key };
}

function setVisible(state, visible) {
  if (visible === state.visible) return state;
  return { ...withBuffer(state, state.active, visible ? markOpened : markSeen), visible };
}

function markSeen(buffer) {
  return { ...buffer, marker: '', seen: buffer.items.at(-1)?.key ?? '' };
}

function markOpened(buffer) {
  return {
    ...buffer,
    marker: buffer.unread > 0 ? buffer.seen : '',
    seen: buffer.items.at(-1)?.key ?? '',
    unread: 0,
    mentions: 0,
  };
}

function close(state, key) {
  if (key === SERVER || !state.buffers.has(key)) return state;
  const order = conversationOrder(state);
  const at = order.indexOf(key);
  const neighbour = order[at + 1] ?? order[at - 1] ?? SERVER;
  const next = state.active === key ? select(state, neighbour) : state;
  const buffers = new Map(next.buffers);
  buffers.delete(key);
  return { ...next, buffers };
}

/** The keys of all conversations as the page lists them: server, channels, direct ones, each by name. */
export function conversationOrder(state) {
  const ofKind = (kind) =>
    [...state.buffers]
      .filter(([, buffer]) => buffer.kind === kind)
      .map(([key]) => key)
      .sort();
  return [...ofKind('server'), ...ofKind('channel'), ...ofKind('direct')];
}
