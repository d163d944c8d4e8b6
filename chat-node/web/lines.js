// What each line from the server does to the state. Pure; a line that is not known becomes readable text.

import { fold, isChannel, parseSource, readModes, readSupport, statusTarget } from './irc.js';
import { newMember, readName, sign, sortMembers, withRank, withoutMember } from './members.js';
import { mentions, plainText } from './formatting.js';
import { SERVER, addItem, ensureBuffer, keyOf, withBuffer } from './conversations.js';
import { explainMode, explainRefusal } from './words.js';

const ACTION = /^\x01ACTION (.*?)\x01?$/s;
const MAX_LISTED_CHANNELS = 2_000;
/** Numerics of the greeting: kept on the server's page, never pushed at anybody. */
const GREETING = /^(00[1-4]|25\d|26[56]|372)$/;
const SILENT = new Set([
  '315',
  '321',
  '329',
  '375',
  '376',
  '422',
  'ACK',
  'TAGMSG',
  'ACCOUNT',
  'CHGHOST',
  'SETNAME',
  'PONG',
]);

/**
 * `event`: `{ message, now, ownId, origin, replay }`; `origin` is the conversation in which the command was typed
 * that this line answers, or empty.
 */
export function applyLine(state, event) {
  const { message } = event;
  const context = {
    ...event,
    params: message.params,
    from: parseSource(message.source),
    time: timeOf(message, event.now),
  };
  context.self = fold(context.from.nick) === fold(state.nick) && state.nick !== '';
  const read = READERS[message.command];
  if (read) return read(state, context);
  if (SILENT.has(message.command)) return state;
  const refusal = explainRefusal(message);
  if (refusal) return addRefusal(state, context, refusal);
  return addText(state, context);
}

/** A message of a history batch as an item, or null when it is not one that is shown. */
export function historyItem(state, message, now) {
  if (message.command !== 'PRIVMSG' && message.command !== 'NOTICE') return null;
  const item = spokenItem(state, message, parseSource(message.source).nick, timeOf(message, now));
  return item?.self ? { ...item, state: 'acknowledged' } : item;
}

function timeOf({ tags }, now) {
  const time = Date.parse(tags.time ?? '');
  return Number.isNaN(time) ? now : time;
}

/** A key that tells events with one msgid apart: one event may be several lines. */
function eventKey({ tags, command, params }) {
  return tags.msgid ? `${tags.msgid} ${command} ${params.join(' ')}` : undefined;
}

function spokenItem(state, message, nick, time) {
  const [target = '', raw = ''] = message.params;
  const action = ACTION.exec(raw);
  if (!action && raw.startsWith('\x01')) return null;
  const self = fold(nick) === fold(state.nick);
  return {
    key: message.tags.msgid || undefined,
    msgid: message.tags.msgid ?? '',
    kind: action ? 'action' : message.command === 'NOTICE' ? 'notice' : 'message',
    from: nick,
    self,
    to: statusTarget(target, state.support).sign,
    text: action ? action[1] : raw,
    mention: !self && mentions(raw, state.nick),
    time,
  };
}

const READERS = {
  PRIVMSG: readSpoken,
  NOTICE: readSpoken,

  JOIN(state, context) {
    const {
      params: [name],
      from,
      self,
      message,
    } = context;
    const key = keyOf(name);
    let next = self ? ensureBuffer(state, name) : state;
    next = withBuffer(next, key, (buffer) => ({
      ...buffer,
      name,
      joined: buffer.joined || self,
      rejoin: buffer.rejoin && !self,
      members: new Map(self ? [] : buffer.members).set(fold(from.nick), newMember(from.nick, '')),
    }));
    return addItem(next, key, { key: eventKey(message), kind: 'join', who: from.nick, time: context.time });
  },

  PART(state, context) {
    return leave(state, keyOf(context.params[0]), context.from.nick, context, {
      kind: 'part',
      who: context.from.nick,
      reason: context.params[1] ?? '',
    });
  },

  KICK(state, context) {
    const [name, nick, reason = ''] = context.params;
    const by = context.from.nick;
    const text =
      fold(nick) === fold(state.nick)
        ? `You were removed by ${by}${reason ? `: ${plainText(reason)}` : ''}. /join ${name} to come back, if you may.`
        : `${by} removed ${nick}${reason ? `: ${plainText(reason)}` : ''}`;
    return leave(state, keyOf(name), nick, context, { kind: 'event', text });
  },

  QUIT(state, context) {
    const {
      from,
      params: [reason = ''],
      message,
      time,
    } = context;
    const key = fold(from.nick);
    return [...state.buffers].reduce((next, [at, buffer]) => {
      if (!buffer.members.has(key) && at !== key) return next;
      const without = withBuffer(next, at, (known) => ({ ...known, members: withoutMember(known.members, key) }));
      return addItem(without, at, {
        key: eventKey(message),
        kind: 'quit',
        who: from.nick,
        reason: plainText(reason),
        time,
      });
    }, state);
  },

  NICK(state, context) {
    const {
      from,
      self,
      params: [now],
      message,
      time,
    } = context;
    const [before, after] = [fold(from.nick), fold(now)];
    let next = self ? { ...state, nick: now } : state;
    for (const [key, buffer] of state.buffers) {
      const member = buffer.members.get(before);
      const concerned = member || key === before;
      if (!concerned) continue;
      if (member) {
        next = withBuffer(next, key, (known) => ({
          ...known,
          members: withoutMember(known.members, before).set(after, { ...member, nick: now }),
        }));
      }
      next = addItem(next, key, { key: eventKey(message), kind: 'nick', who: from.nick, now, time });
    }
    return renameDirect(next, before, now);
  },

  TOPIC(state, context) {
    const {
      params: [name, topic = ''],
      from,
      message,
      time,
    } = context;
    const key = keyOf(name);
    const next = withBuffer(state, key, (buffer) => ({ ...buffer, topic, topicBy: from.nick }));
    const text = topic === '' ? `${from.nick} cleared the topic` : `${from.nick} set the topic: ${plainText(topic)}`;
    return addItem(next, key, { key: eventKey(message), kind: 'event', text, time });
  },

  MODE(state, context) {
    const {
      params: [target, ...rest],
      from,
      message,
      time,
    } = context;
    const changes = readModes(rest, state.support);
    if (!isChannel(target, state.support)) {
      return addItem(state, SERVER, { kind: 'event', text: `Your modes: ${rest.join(' ')}`, time });
    }
    const key = keyOf(target);
    const next = withBuffer(state, key, (buffer) => ({
      ...buffer,
      members: changes.reduce((members, change) => withRank(members, change), buffer.members),
    }));
    const text = `${from.nick} ${changes.map(explainMode).join(', ')}`;
    return addItem(next, key, { key: eventKey(message), kind: 'event', text, time });
  },

  AWAY(state, { from, params: [reason = ''] }) {
    return setAway(state, from.nick, reason !== '', reason);
  },

  NOTE: (state, context) =>
    context.params[1] === 'DUPLICATE' ? state : addText(state, context, plainText(context.params.at(-1) ?? '')),

  INVITE(state, { params: [nick, channel], from, time }) {
    const forMe = fold(nick) === fold(state.nick);
    const text = forMe ? `${from.nick} invites you to ${channel}.` : `${from.nick} invited ${nick} to ${channel}`;
    return addItem(state, forMe ? state.active : keyOf(channel), {
      kind: 'invite',
      channel: forMe ? channel : '',
      text,
      time,
    });
  },

  '005': (state, { params }) => ({ ...state, support: readSupport(state.support, params.slice(1, -1)) }),
  '001': (state, context) => addText({ ...state, nick: context.params[0] }, context),
  305: (state, context) => addText({ ...state, away: false }, context, 'You are no longer marked as away.'),
  306: (state, context) =>
    addText({ ...state, away: true }, context, 'You are marked as away. /away without a reason ends it.'),

  301(state, { params: [, nick, reason = ''], time }) {
    const key = keyOf(nick);
    const buffer = state.buffers.get(key);
    if (state.whois.has(key)) return gather(state, nick, `Away: ${plainText(reason)}`);
    if (!buffer || buffer.away === reason) return state;
    const next = withBuffer(state, key, (known) => ({ ...known, away: reason }));
    return addItem(next, key, { kind: 'event', text: `${nick} is away: ${plainText(reason)}`, time });
  },

  324: (state, context) =>
    addText(state, context, `Modes of ${context.params[1]}: ${context.params.slice(2).join(' ')}`),
  331: (state, { params: [, name] }) =>
    withBuffer(state, keyOf(name), (buffer) => ({ ...buffer, topic: '', topicBy: '' })),
  332: (state, { params: [, name, topic] }) => withBuffer(state, keyOf(name), (buffer) => ({ ...buffer, topic })),
  333: (state, { params: [, name, by = ''] }) =>
    withBuffer(state, keyOf(name), (buffer) => ({ ...buffer, topicBy: parseSource(by).nick })),
  341: (state, context) => addText(state, context, `${context.params[1]} was invited to ${context.params[2]}.`),

  322(state, { params: [, name, people, topic = ''] }) {
    if (state.list.channels.length >= MAX_LISTED_CHANNELS) return state;
    const channel = { name, people: Number(people) || 0, topic: plainText(topic).replace(/^\[\+[^\]]*\]\s*/, '') };
    return { ...state, list: { ...state.list, channels: [...state.list.channels, channel] } };
  },
  323: (state) => ({ ...state, list: { ...state.list, loading: false } }),

  352(state, { params }) {
    const [, channel, , , , nick, flags = ''] = params;
    return withMember(state, keyOf(channel), nick, (member) => ({ ...member, away: flags.startsWith('G') }));
  },

  353(state, { params: [, , name, list = ''] }) {
    return withBuffer(state, keyOf(name), (buffer) => {
      const incoming = new Map(buffer.incoming ?? []);
      for (const entry of list.split(' ').filter(Boolean)) {
        const member = readName(entry, state.support);
        const known = buffer.members.get(fold(member.nick));
        incoming.set(fold(member.nick), { ...member, away: known?.away ?? false });
      }
      return { ...buffer, incoming };
    });
  },

  366(state, { params: [, name], time }) {
    const key = keyOf(name);
    const next = withBuffer(state, key, (buffer) => {
      // A list without oneself comes for a channel that one was put out of unseen.
      const members = buffer.incoming ?? new Map();
      const joined = buffer.joined && members.has(fold(state.nick));
      return { ...buffer, members: joined ? members : new Map(), incoming: null, joined };
    });
    if (!state.asked.has(`names ${key}`)) return next;
    const asked = new Set(state.asked);
    asked.delete(`names ${key}`);
    const members = sortMembers(next.buffers.get(key)?.members ?? new Map(), state.support);
    const nicks = members.map((member) => sign(member, state.support) + member.nick);
    const text = `${members.length} in ${name}: ${nicks.join(' ')}`;
    return addItem({ ...next, asked }, next.buffers.has(key) ? key : state.active, { kind: 'info', text, time });
  },

  311: (state, { params: [, nick, user, host, , name = ''] }) =>
    gather(
      { ...state, whois: new Map(state.whois).set(keyOf(nick), []) },
      nick,
      `${plainText(name)} (${user}@${host})`,
    ),
  312: (state, { params: [, nick, server, about = ''] }) =>
    gather(state, nick, `Server: ${server}${about ? `, ${about}` : ''}`),
  313: (state, { params: [, nick] }) => gather(state, nick, 'Is a server operator'),
  317: (state, { params: [, nick, idle, since] }) => gather(state, nick, idleText(Number(idle), Number(since))),
  319: (state, { params: [, nick, channels = ''] }) => gather(state, nick, `In ${channels.trim()}`),
  330: (state, { params: [, nick, account] }) => gather(state, nick, `Signed in as ${account}`),
  335: (state, { params: [, nick] }) => gather(state, nick, 'Is a bot'),
  671: (state, { params: [, nick] }) => gather(state, nick, 'Uses a secure connection'),
  318(state, context) {
    const [, nick] = context.params;
    const lines = state.whois.get(keyOf(nick));
    if (!lines) return state;
    const whois = new Map(state.whois);
    whois.delete(keyOf(nick));
    return addItem({ ...state, whois }, place(state, context), {
      kind: 'info',
      text: `About ${nick}`,
      lines,
      time: context.time,
    });
  },
};

function readSpoken(state, context) {
  const { message, from, self, ownId, time } = context;
  const item = spokenItem(state, message, from.nick || message.source, time);
  if (!item) return state;
  const { target } = statusTarget(message.params[0] ?? '', state.support);
  const direct = !isChannel(target, state.support);
  const key = direct ? directKey(state, context, self ? target : from.nick) : keyOf(target);
  let next = direct && key !== SERVER ? ensureBuffer(state, self ? target : from.nick) : state;
  const mine = ownId > 0 ? `out:${ownId}` : '';
  if (mine !== '') {
    const waiting = next.buffers.get(key)?.items.find((known) => known.key === mine);
    next = withBuffer(next, key, (buffer) => ({
      ...buffer,
      items: buffer.items.filter((known) => known.key !== mine),
    }));
    return addItem(next, key, { ...item, key: waiting ? mine : item.key, id: ownId, state: 'acknowledged' });
  }
  const meant = !self && (item.mention || (direct && item.kind !== 'notice'));
  return addItem(next, key, self ? { ...item, state: 'acknowledged' } : item, { counts: !self, mention: meant });
}

/** Where a direct line goes: notices, and what servers say, open no conversation of their own. */
function directKey(state, { message, from }, other) {
  const known = state.buffers.has(keyOf(other));
  const server = from.user === '' && from.host === '' && message.source.includes('.');
  const quiet = message.command === 'NOTICE' && !known;
  return server || quiet || state.nick === '' ? SERVER : keyOf(other);
}

function leave(state, key, nick, { message, time }, item) {
  const gone = fold(nick);
  const self = gone === fold(state.nick);
  const next = withBuffer(state, key, (buffer) => ({
    ...buffer,
    joined: buffer.joined && !self,
    rejoin: buffer.rejoin && !self,
    members: self ? new Map() : withoutMember(buffer.members, gone),
  }));
  return addItem(next, key, { ...item, key: eventKey(message), time });
}

function renameDirect(state, before, now) {
  const buffer = state.buffers.get(before);
  const after = keyOf(now);
  if (!buffer || buffer.kind !== 'direct' || (after !== before && state.buffers.has(after))) return state;
  const buffers = new Map(state.buffers);
  buffers.delete(before);
  buffers.set(after, { ...buffer, name: now });
  return { ...state, buffers, active: state.active === before ? after : state.active };
}

function setAway(state, nick, away, reason) {
  const key = fold(nick);
  let next = fold(state.nick) === key ? { ...state, away } : state;
  for (const at of state.buffers.keys()) {
    next = withMember(next, at, nick, (member) => (member.away === away ? member : { ...member, away }));
  }
  return withBuffer(next, key, (buffer) =>
    buffer.kind === 'direct' && buffer.away !== reason ? { ...buffer, away: reason } : buffer,
  );
}

function addRefusal(state, context, refusal) {
  const about = refusal.about === '' ? '' : keyOf(statusTarget(refusal.about, state.support).target);
  const key = state.buffers.has(about) ? about : place(state, context);
  return addItem(state, key, { kind: 'error', text: refusal.text, time: context.time }, { counts: true });
}

/** Any other line as text: its parameters without the own nick in front. */
function addText(state, context, text) {
  const { message, params, time } = context;
  const words = /^\d{3}$/.test(message.command) ? params.slice(1) : [message.command, ...params];
  const key = GREETING.test(message.command) && !context.origin ? SERVER : place(state, context);
  return addItem(state, key, { kind: 'info', text: text ?? plainText(words.join(' ')), time });
}

/** The conversation that an answer belongs to. */
function place(state, { origin }) {
  return state.buffers.has(origin) ? origin : state.active;
}

function gather(state, nick, line) {
  const key = keyOf(nick);
  if (!state.whois.has(key)) return state;
  return { ...state, whois: new Map(state.whois).set(key, [...state.whois.get(key), line]) };
}

function idleText(seconds, since) {
  const idle = seconds < 60 ? 'Active now' : `Quiet for ${duration(seconds)}`;
  return since > 0 ? `${idle}, here since ${new Date(since * 1000).toLocaleString()}` : idle;
}

function duration(seconds) {
  const [size, unit] = seconds >= 86_400 ? [86_400, 'day'] : seconds >= 3_600 ? [3_600, 'hour'] : [60, 'minute'];
  const count = Math.floor(seconds / size);
  return `${count} ${unit}${count === 1 ? '' : 's'}`;
}

function withMember(state, key, nick, change) {
  const member = state.buffers.get(key)?.members.get(fold(nick));
  if (!member) return state;
  const changed = change(member);
  if (changed === member) return state;
  return withBuffer(state, key, (buffer) => ({ ...buffer, members: new Map(buffer.members).set(fold(nick), changed) }));
}
