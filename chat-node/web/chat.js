// The client: what to do when something arrives from the server and when the person does something.
// Holds the state, the connection and the outbox together; knows nothing of the DOM.

import { Connection } from './connection.js';
import { SERVER, keyOf } from './conversations.js';
import { readInput } from './commands.js';
import { fold, isChannel, parseSource, splitText, textRoom } from './irc.js';
import { Requests, historyLine, joinLists } from './requests.js';
import { Outbox, answeredId, messageLine } from './outbox.js';
import { gapKeys, initialState, reduce } from './state.js';
import { MAX_LOADED_ITEMS } from './timeline.js';
import { explainRefusal } from './words.js';

const MAX_WHO = 300;
const MAX_INPUT_MESSAGES = 30;

export class Chat {
  #outside;
  #memory;
  #connection;
  #outbox;
  #requests = new Requests();
  #bare = false;
  #gapped = new Set();
  #retry = null;
  #remembered = '';

  /**
   * `outside` is what `Connection` needs without `emit`, and `changed()`, called after every change of `state`,
   * `door({ field, text })`, called when the person is outside, and `browse()`, when the channels are to be shown.
   */
  constructor(outside, memory) {
    this.#outside = outside;
    this.#memory = memory;
    this.#outbox = new Outbox(memory.record);
    this.#connection = new Connection({ ...outside, emit: (event) => this.#hear(event) }, memory);
    this.state = initialState();
  }

  /** A new session, as the form asks. */
  enter({ nick, channels, password }) {
    this.#bare = false;
    this.#dispatch({ type: 'wanted', channels });
    this.#connection.start({ nick, password, alternate: false });
  }

  /** The session that this tab had before it was reloaded. */
  comeBack() {
    const { record } = this.#memory;
    this.#bare = true;
    this.#dispatch({ type: 'restored', ...record, outbox: this.#outbox.all() });
    this.#connection.start({ nick: record.nick, password: '', alternate: true });
  }

  /** Ends the session: others see the person leave, and nothing of it stays in this tab. */
  leave(reason = 'Left the page') {
    this.#connection.leave(reason);
    this.#memory.clear();
    this.#outbox = new Outbox();
    this.#requests.clear();
    this.#outside.clearTimeout(this.#retry);
    this.state = { ...initialState(), visible: this.state.visible };
    this.#remembered = '';
    this.#outside.changed();
  }

  retryNow() {
    this.#connection.retryNow();
  }

  /** The page came back to the front or the network changed. */
  wake() {
    this.#connection.probe();
  }

  setVisible(visible) {
    this.#dispatch({ type: 'visible', visible });
  }

  /** What was typed into the open conversation. Returns false when nothing could be done with it. */
  submit(text) {
    const { state } = this;
    const buffer = state.buffers.get(state.active);
    const target = buffer.kind === 'server' ? '' : buffer.name;
    const lines = text
      .split('\n')
      .map((line) => line.trimEnd())
      .filter((line) => line !== '');
    if (lines.length === 0) return false;
    if (
      lines[0].startsWith('/') &&
      !lines[0].startsWith('//') &&
      lines.length > 1 &&
      !/^\/(me|msg|notice)\b/i.test(lines[0])
    ) {
      this.#complain('A command is one line. Remove the line breaks, or begin with “//” to send it as text.');
      return false;
    }
    return lines.every((line, index) =>
      this.#act(
        index === 0
          ? readInput(line, { target, kind: buffer.kind }, state.support)
          : { do: 'say', target, kind: 'privmsg', text: line, open: false },
      ),
    );
  }

  select(key) {
    this.#dispatch({ type: 'selected', key });
    this.#fill(key);
  }

  openDirect(nick) {
    this.#dispatch({ type: 'opened', name: nick });
    this.#fill(keyOf(nick));
  }

  /** Joins channels, and shows the first. */
  join(channels, keys = []) {
    const inside = channels.find((name) => this.state.buffers.get(keyOf(name))?.joined);
    if (inside) this.select(keyOf(inside));
    const wanted = channels.filter((name) => !this.state.buffers.get(keyOf(name))?.joined);
    if (wanted.length === 0) return true;
    const params = keys.length > 0 ? [wanted.join(','), keys.join(',')] : [wanted.join(',')];
    return this.#command({ command: 'JOIN', params }, this.state.active);
  }

  /** Closes a conversation; a channel is left. */
  close(key, reason = '') {
    const buffer = this.state.buffers.get(key);
    if (!buffer || key === SERVER) return false;
    if (buffer.kind === 'channel' && buffer.joined) {
      const params = reason === '' ? [buffer.name] : [buffer.name, reason];
      if (!this.#command({ command: 'PART', params }, key)) return false;
    }
    this.#dispatch({ type: 'closed', key });
    return true;
  }

  setTopic(key, topic) {
    return this.#command({ command: 'TOPIC', params: [this.state.buffers.get(key).name, topic] }, key);
  }

  browse() {
    if (this.#connection.send(this.#labelled({ command: 'LIST', params: [] }, { origin: SERVER }))) {
      this.#dispatch({ type: 'listing' });
    }
  }

  /** Loads what was said before the oldest message that is shown. */
  loadOlder(key) {
    const buffer = this.state.buffers.get(key);
    if (!buffer || buffer.end !== '' || buffer.loading !== '' || buffer.items.length >= MAX_LOADED_ITEMS) return;
    const oldest = buffer.items.find((item) => item.msgid);
    if (oldest) this.#askHistory(key, 'before', `msgid=${oldest.msgid}`);
  }

  /** Asks for what was said before the first message after a gap mark. */
  fillGap(key, gap) {
    const { items } = this.state.buffers.get(key);
    const next = items.slice(items.findIndex((item) => item.key === gap)).find((item) => item.msgid);
    this.#askHistory(key, 'before', next ? `msgid=${next.msgid}` : '*', gap);
  }

  /** Sends a failed message again, as a new one. */
  sendAgain(id) {
    const entry = this.discard(id);
    if (entry) this.#say(entry.target, entry.kind, entry.text);
  }

  discard(id) {
    const entry = this.#outbox.remove(id);
    if (entry) {
      this.#dispatch({ type: 'discarded', id, target: entry.target });
      this.#saveOutbox();
    }
    return entry;
  }

  #act(action) {
    switch (action.do) {
      case 'say':
        if (action.open) this.#show(action.target);
        return this.#say(action.target, action.kind, action.text);
      case 'send':
        return this.#command(action.message, this.state.active);
      case 'open':
        this.openDirect(action.target);
        return true;
      case 'join':
        return this.join(action.channels, action.keys);
      case 'part':
        return this.#part(action);
      case 'names':
        this.#dispatch({ type: 'asked', what: `names ${keyOf(action.target)}` });
        return this.#command({ command: 'NAMES', params: [action.target] }, this.state.active);
      case 'list':
        this.#outside.browse();
        return true;
      case 'close':
        return this.close(this.state.active);
      case 'quit':
        this.leave(action.reason || undefined);
        this.#outside.door({ field: '', text: '' });
        return true;
      case 'tell':
        this.#note('info', action.lines[0], action.lines.slice(1));
        return true;
      default:
        return this.#complain(action.text);
    }
  }

  #show(name) {
    if (!isChannel(name, this.state.support)) this.openDirect(name);
    else if (this.state.buffers.has(keyOf(name))) this.select(keyOf(name));
  }

  #part({ target, reason }) {
    const key = keyOf(target);
    if (this.state.buffers.has(key)) return this.close(key, reason);
    return this.#command({ command: 'PART', params: reason === '' ? [target] : [target, reason] }, this.state.active);
  }

  #say(target, kind, text) {
    const { nick, support } = this.state;
    const overhead = kind === 'action' ? 9 : 0;
    const pieces = splitText(text, textRoom({ target, nick, support }) - overhead);
    if (pieces.length > MAX_INPUT_MESSAGES) {
      return this.#complain(
        `That would be ${pieces.length} messages; at most ${MAX_INPUT_MESSAGES} go at once. Share it as a link.`,
      );
    }
    for (const piece of pieces) {
      if (this.#outbox.full) {
        return this.#complain('Too many messages wait to be sent. Wait until the connection is back, or discard some.');
      }
      const entry = this.#outbox.add({ target, kind, text: piece, time: this.#outside.now() });
      this.#dispatch({ type: 'outgoing', entry });
      if (this.#connection.online && this.#retry === null) this.#transmit(entry);
    }
    this.#saveOutbox();
    return true;
  }

  #transmit(entry) {
    const { caps } = this.#connection;
    if (!this.#connection.send(messageLine(entry, caps))) return;
    const tried = this.#outbox.markTried(entry.id);
    const outcome = caps.has('echo-message') ? 'pending' : 'acknowledged';
    if (outcome === 'acknowledged') this.#outbox.acknowledge(entry.id);
    this.#dispatch({ type: 'outcome', id: tried.id, target: tried.target, outcome });
  }

  #transmitAll() {
    this.#outside.clearTimeout(this.#retry);
    this.#retry = null;
    // Only where the server knows ids is it safe to send again what may have arrived.
    const again = this.#connection.caps.has('chatroom.dev/id');
    const due = this.#outbox.unsent().filter((entry) => again || !entry.tried || entry.state === 'waiting');
    due.forEach((entry) => this.#transmit(entry));
    this.#saveOutbox();
  }

  /** A typed command; says so when it cannot be sent now. */
  #command(message, origin) {
    if (this.#connection.send(this.#labelled(message, { origin }))) return true;
    return this.#complain(
      'Not connected at the moment. Commands can be sent when the connection is back; messages wait by themselves.',
    );
  }

  #labelled(message, purpose) {
    return this.#connection.caps.has('labeled-response') ? this.#requests.label(message, purpose) : message;
  }

  #askHistory(key, mode, reference, gap = '') {
    const buffer = this.state.buffers.get(key);
    if (!buffer || buffer.kind === 'server' || buffer.loading !== '' || !this.#connection.online) return;
    if (!this.#connection.caps.has('draft/chathistory')) {
      this.#dispatch({ type: 'historyRefused', key, final: true });
      return;
    }
    const line = historyLine(buffer.name, reference, this.state.support);
    this.#connection.send(this.#labelled(line, { history: { key, mode, gap } }));
    this.#dispatch({ type: 'historyAsked', key, mode });
  }

  /** Fetches the latest of a conversation that shows nothing yet. */
  #fill(key) {
    const buffer = this.state.buffers.get(key);
    if (buffer && buffer.kind === 'direct' && buffer.end === '' && !buffer.items.some((item) => item.msgid)) {
      this.#askHistory(key, 'latest', '*');
    }
  }

  #hear(event) {
    switch (event.type) {
      case 'status': {
        const { type, ...status } = event;
        this.#dispatch({ type: 'status', status });
        if (status.phase === 'waiting' || status.phase === 'connecting') this.#requests.clear();
        return;
      }
      case 'registered':
        this.#begin(event.nick);
        return;
      case 'resumed':
        this.#memory.update({ nick: event.nick });
        this.#dispatch({ type: 'identity', nick: event.nick, caps: this.#connection.caps });
        return;
      case 'replayed':
        this.#goOn();
        return;
      case 'tokenRefused':
        this.#loseSession();
        return;
      case 'nickRefused':
      case 'refused':
        this.#turnedAway(event);
        return;
      case 'gap':
        gapKeys(this.state, event.target).forEach((key) => this.#gapped.add(key));
        this.#dispatch({ type: 'gap', target: event.target, oldest: event.oldest, now: this.#outside.now() });
        return;
      case 'history':
        this.#hearHistory(event);
        return;
      default:
        this.#hearLine(event);
    }
  }

  /** A new session: join the channels, and send what was written meanwhile. */
  #begin(nick) {
    this.#memory.update({ nick });
    this.#dispatch({ type: 'identity', nick, caps: this.#connection.caps });
    this.#loseSession();
    this.#bare = false;
    for (const names of joinLists(this.#memory.record.channels)) {
      this.#connection.send({ command: 'JOIN', params: [names] });
    }
    for (const [key, buffer] of this.state.buffers) {
      if (buffer.kind === 'direct') this.#askHistory(key, 'latest', '*');
    }
    this.#transmitAll();
  }

  /** The session goes on after everything missed was replayed. */
  #goOn() {
    for (const [key, buffer] of this.state.buffers) {
      // What a gap of direct messages hides may also be the own leaving of a channel.
      if ((this.#bare || this.#gapped.has(SERVER)) && buffer.kind === 'channel' && buffer.joined) {
        this.#connection.send({ command: 'NAMES', params: [buffer.name] });
        this.#connection.send({ command: 'TOPIC', params: [buffer.name] });
      }
      if (this.#bare || this.#gapped.has(key)) this.#askHistory(key, 'latest', '*');
    }
    this.#bare = false;
    this.#gapped.clear();
    this.#transmitAll();
  }

  #loseSession() {
    this.#dispatch({ type: 'sessionLost' });
    for (const { id, target, state: outcome, reason } of this.#outbox.startNewSession()) {
      this.#dispatch({ type: 'outcome', id, target, outcome, reason });
    }
    this.#saveOutbox();
  }

  #turnedAway({ type, code, nick, text }) {
    const refusal = explainRefusal({ command: code, params: ['*', nick ?? '', text] });
    const field = type === 'nickRefused' ? 'nick' : code === '464' ? 'password' : '';
    this.#outside.door({ field, text: refusal?.text ?? text });
  }

  #hearHistory({ target, messages, label }) {
    const request = this.#requests.take(label).history;
    const key = request?.key ?? keyOf(target);
    const mode = request?.mode ?? (this.state.buffers.get(key)?.loading || 'latest');
    this.#dispatch({ type: 'history', key, messages, mode, gap: request?.gap, now: this.#outside.now() });
  }

  #hearLine({ message, label, replay }) {
    const ownId = answeredId(message, label);
    const request = this.#requests.look(label);
    const now = this.#outside.now();
    const refusal = explainRefusal(message);
    if (request.history && (refusal || message.command === 'ACK')) {
      this.#requests.take(label);
      this.#dispatch({ type: 'historyRefused', key: request.history.key, final: !refusal?.temporary });
      return;
    }
    if (refusal && this.#settleRefusal(message, ownId, refusal)) return;
    const before = this.state.buffers.get(keyOf(message.params[0] ?? ''));
    this.#dispatch({ type: 'line', message, now, ownId, origin: request.origin ?? '', replay });
    this.#settle(message, ownId);
    // A channel joined by hand is shown; one that comes back by itself only to somebody who looks at no other.
    const shows = !before?.joined && ((!replay && !before?.rejoin) || this.state.active === SERVER);
    this.#follow(message, shows);
  }

  /** What a line says about an own message under way. */
  #settle({ command, params, source }, ownId) {
    if (command === 'NOTE' && params[1] === 'DUPLICATE') {
      this.#acknowledge(Number(params[2]), params[3] ?? '');
      return;
    }
    const spoken = command === 'PRIVMSG' || command === 'NOTICE';
    if (ownId > 0 && spoken && fold(parseSource(source).nick) === fold(this.state.nick)) {
      if (this.#outbox.acknowledge(ownId)) this.#saveOutbox();
    }
  }

  /** True when the refusal was about an own message, which then shows it. */
  #settleRefusal({ command, params }, ownId, refusal) {
    const named = command === 'FAIL' ? Number(params.slice(2, -1).find((word) => /^\d+$/.test(word)) ?? 0) : 0;
    const unlabelled = !this.#connection.caps.has('labeled-response') && refusal.about !== '';
    const id = ownId || named || (unlabelled ? (this.#outbox.oldestTo(refusal.about)?.id ?? 0) : 0);
    if (!this.#outbox.get(id)) return false;
    this.#fail(id, refusal);
    return true;
  }

  #acknowledge(id, msgid) {
    const entry = this.#outbox.acknowledge(id);
    if (!entry) return;
    this.#dispatch({ type: 'outcome', id, target: entry.target, outcome: 'acknowledged', msgid });
    this.#saveOutbox();
  }

  #fail(id, refusal) {
    const change = refusal.temporary ? this.#outbox.postpone(id, refusal.text) : this.#outbox.fail(id, refusal.text);
    this.#dispatch({ type: 'outcome', id, target: change.target, outcome: change.state, reason: change.reason });
    this.#saveOutbox();
    if (refusal.temporary && this.#retry === null) {
      this.#retry = this.#outside.setTimeout(() => {
        this.#retry = null;
        if (this.#connection.online) this.#transmitAll();
      }, this.#outbox.nextRetryMs());
    }
  }

  /** What this page asks for in turn. */
  #follow({ command, params, source }, shows) {
    const self = fold(parseSource(source).nick) === fold(this.state.nick);
    if (command === 'JOIN' && self) {
      const key = keyOf(params[0]);
      if (shows) this.#dispatch({ type: 'selected', key });
      this.#askHistory(key, 'latest', '*');
    } else if (command === '366') {
      const buffer = this.state.buffers.get(keyOf(params[1] ?? ''));
      if (buffer?.joined && buffer.members.size <= MAX_WHO)
        this.#connection.send({ command: 'WHO', params: [buffer.name] });
    } else if (command === 'NICK' && self) {
      this.#memory.update({ nick: this.state.nick });
      this.#connection.rename(this.state.nick);
    } else if (command === '005') {
      this.#memory.update({ support: this.state.support });
    }
  }

  #note(kind, text, lines) {
    this.#dispatch({ type: 'note', kind, text, lines, now: this.#outside.now() });
  }

  #complain(text) {
    this.#note('error', text);
    return false;
  }

  #saveOutbox() {
    this.#memory.update({ nextId: this.#outbox.nextId, outbox: this.#outbox.all() });
  }

  #dispatch(event) {
    const next = reduce(this.state, event);
    if (next === this.state) return;
    this.state = next;
    this.#remember();
    this.#outside.changed();
  }

  #remember() {
    const { buffers, active } = this.state;
    const channels = [...buffers.values()].filter(
      (buffer) => buffer.kind === 'channel' && (buffer.joined || buffer.rejoin),
    );
    const directs = [...buffers.values()].filter((buffer) => buffer.kind === 'direct');
    const now = [...channels, ...directs].map((buffer) => buffer.name).join(' ') + ` ${active}`;
    if (now === this.#remembered || (this.#remembered === '' && channels.length + directs.length === 0)) return;
    this.#remembered = now;
    this.#memory.update({
      channels: channels.map(({ name }) => name),
      directs: directs.map(({ name }) => name),
      active,
    });
  }
}
