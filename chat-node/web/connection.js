// One lasting conversation with the server over WebSockets that come and go: registers, resumes, paces what is
// sent, notices a dead link, and connects again by itself. Socket, timers, clock and chance are given to it.

import { formatLine, parseLine } from './irc.js';
import { Batches } from './batches.js';
import { Handshake } from './handshake.js';

export const SUB_PROTOCOL = 'text.ircv3.net';

const CONNECT_TIMEOUT_MS = 15_000;
const HANDSHAKE_TIMEOUT_MS = 30_000;
const QUIET_MS = 75_000;
const ANSWER_MS = 20_000;
const PROBE_MS = 5_000;
const BACKOFF_FIRST_MS = 500;
const BACKOFF_MAX_MS = 30_000;
const TRY_LATER_MS = 5_000;
const STABLE_MS = 10_000;
const MAX_QUEUED_LINES = 500;
const PACE_BURST = 15;
const PACE_EACH_MS = 220;
const MAX_MOVE_SECONDS = 600;
/** Refusals that reach the person at the door or in the banner, not as lines of a conversation. */
const TOLD_OTHERWISE = new Set(['tryLater', 'nickRefused', 'refused']);

/** Waiting time before the attempt after `failures` failed ones; half of it is chance, so that a crowd spreads. */
export function backoffMs(failures, random) {
  const most = Math.min(BACKOFF_MAX_MS, BACKOFF_FIRST_MS * 2 ** Math.min(failures, 10));
  return Math.round(most / 2 + (most / 2) * random());
}

/** What a close code asks for: `stop`, `later` (the server is busy) or `again`. */
export function closeAdvice(code) {
  if (code >= 4500 && code <= 4599) return 'stop';
  return code === 1013 ? 'later' : 'again';
}

export class Connection {
  #outside;
  #memory;
  #identity = null;
  #link = null;
  #failures = 0;
  #timers = new Map();

  /**
   * `outside`: `{ open(): WebSocket, now(): ms, random(): 0..1, setTimeout, clearTimeout, emit(event) }`.
   * Emitted: `{ type: 'status', phase, … }`, `registered`, `resumed`, `replayed`, `tokenRefused`, `nickRefused`,
   * `refused`, `line`, `history`, `gap`.
   * Phases: `connecting`, `registering`, `resuming`, `online`, `moving`, `waiting` (with `retryAt`), `stopped`.
   */
  constructor(outside, memory) {
    this.#outside = outside;
    this.#memory = memory;
  }

  get caps() {
    return this.#link?.handshake.caps ?? new Set();
  }

  get online() {
    return this.#link?.online ?? false;
  }

  /** `identity`: `{ nick, password, alternate }`; once in, the same nick or one like it is asked for again. */
  start(identity) {
    this.#identity = identity;
    this.#failures = 0;
    this.#connect();
  }

  /** Sends one line now or as soon as the pace allows; false when there is no registered connection. */
  send(message) {
    if (!this.online) return false;
    this.#enqueue(message);
    return true;
  }

  /** A new nick is the one to ask for when a new session must be made. */
  rename(nick) {
    if (this.#identity) this.#identity = { ...this.#identity, nick };
  }

  /** Connects at once instead of waiting. */
  retryNow() {
    if (this.#identity && !this.#link) this.#connect();
  }

  /** Asks for a sign of life soon: the machine may have slept or changed networks. */
  probe() {
    if (this.online) this.#ping(PROBE_MS);
    else this.retryNow();
  }

  /** Ends the session for good. */
  leave(reason) {
    const link = this.#link;
    this.#identity = null;
    this.#drop();
    if (link?.socket.readyState === 1) {
      link.socket.send(formatLine({ command: 'QUIT', params: [reason] }));
      link.socket.close(1000);
    }
    this.#status('stopped', { reason: '' });
  }

  #connect() {
    this.#drop();
    const { record } = this.#memory;
    const tokens = [record.token, record.previousToken].filter(Boolean);
    const resume = this.#memory.resumable ? { tokens, seen: this.#memory.seen } : null;
    let socket;
    try {
      socket = this.#outside.open(SUB_PROTOCOL);
    } catch (error) {
      this.#stop(`This browser cannot open the connection: ${error.message}`);
      return;
    }
    const link = {
      socket,
      handshake: new Handshake(this.#identity, resume),
      batches: new Batches(),
      queue: [],
      tokens: PACE_BURST,
      online: false,
      replaying: false,
      unconfirmed: false,
      tryLater: false,
      reason: '',
    };
    this.#link = link;
    this.#status('connecting');
    this.#after('setup', CONNECT_TIMEOUT_MS, () => this.#lost(link, 'The server did not answer in time.'));
    socket.onopen = () =>
      this.#ifCurrent(link, () => {
        this.#after('setup', HANDSHAKE_TIMEOUT_MS, () => this.#lost(link, 'The server did not finish the welcome.'));
        this.#status('registering');
        link.handshake.begin().forEach((line) => this.#write(link, line));
      });
    socket.onmessage = (event) => this.#ifCurrent(link, () => this.#receive(link, event.data));
    socket.onclose = (event) => this.#ifCurrent(link, () => this.#closed(link, event));
  }

  #ifCurrent(link, act) {
    if (this.#link === link) act();
  }

  #receive(link, data) {
    if (typeof data !== 'string') return;
    const message = parseLine(data);
    if (!message) return;
    this.#after('quiet', QUIET_MS, () => this.#ping(ANSWER_MS));
    this.#clear('answer');
    if (message.command === 'PING') this.#answerPing(link, message.params);
    const step = link.handshake.receive(message);
    step.send.forEach((line) => this.#write(link, line));
    const passed = link.batches.accept(message);
    if (passed?.kind === 'line' && !TOLD_OTHERWISE.has(step.event?.type)) this.#pass(link, passed);
    if (passed?.kind === 'history') this.#outside.emit({ type: 'history', ...passed });
    if (step.event) this.#progress(link, step.event);
    if (passed?.kind === 'replayEnd') this.#replayed(link);
  }

  #pass(link, { message, label, replay }) {
    const { command, params, tags } = message;
    if (tags.msgid) this.#memory.see(tags.msgid);
    if (tags['chatroom.dev/seen']) this.#memory.see(tags['chatroom.dev/seen']);
    if (command === 'RESUME' && params[0] === 'TOKEN') {
      const { shown } = link.handshake;
      this.#memory.takeToken(params[1] ?? '', shown);
      link.unconfirmed = shown !== '';
    } else if (command === 'RESUME' && params[0] === 'GAP') {
      const [, target = '', oldest = ''] = params;
      if (!target.startsWith('#')) this.#memory.forgetFrom(oldest);
      this.#outside.emit({ type: 'gap', target, oldest });
    } else if (command === 'RECONNECT') {
      this.#moveSoon(Number(params[1]));
    } else if (command === 'PONG') {
      if (params.at(-1) === 'resumed') this.#replayed(link);
      if (params.at(-1) === 'confirmed') this.#memory.confirmToken();
    } else if (command === 'ERROR') {
      link.reason = params.at(-1) ?? '';
    } else if (command !== 'PING' && command !== 'RESUME' && command !== 'CAP') {
      this.#outside.emit({ type: 'line', message, label, replay });
    }
  }

  /** The answer to a PING behind a token confirms the token; the answer to ours behind it tells that this was heard. */
  #answerPing(link, params) {
    this.#write(link, { command: 'PONG', params });
    if (!link.unconfirmed) return;
    link.unconfirmed = false;
    this.#write(link, { command: 'PING', params: ['confirmed'] });
  }

  #progress(link, event) {
    switch (event.type) {
      case 'resuming':
        this.#status('resuming');
        return;
      case 'registered':
        this.#identity = { ...this.#identity, nick: event.nick, alternate: true };
        this.#online(link);
        this.#outside.emit(event);
        return;
      case 'resumed':
        link.replaying = true;
        this.#outside.emit(event);
        // The answer to this comes after everything that was missed, also from a server that opens no batch.
        this.#write(link, { command: 'PING', params: ['resumed'] });
        return;
      case 'tokenRefused':
        this.#memory.forgetToken();
        this.#status('registering');
        this.#outside.emit(event);
        return;
      case 'tryLater':
        link.tryLater = true;
        link.reason = event.text;
        return;
      default:
        this.#outside.emit(event);
        this.#identity = null;
        this.#stop(event.text);
        link.socket.close(1000);
    }
  }

  #replayed(link) {
    if (!link.replaying) return;
    link.replaying = false;
    this.#online(link);
    this.#outside.emit({ type: 'replayed' });
  }

  #online(link) {
    link.online = true;
    this.#clear('setup');
    this.#after('stable', STABLE_MS, () => {
      this.#failures = 0;
    });
    this.#status('online');
  }

  /** The server asked to come back; another node of this room answers under the page's own address. */
  #moveSoon(seconds) {
    const within = Number.isFinite(seconds) ? Math.min(Math.max(seconds, 0), MAX_MOVE_SECONDS) : 0;
    const delay = Math.round(within * 1000 * this.#outside.random());
    this.#status('moving', { retryAt: this.#outside.now() + delay });
    this.#after('move', delay, () => {
      const { socket } = this.#link;
      this.#connect();
      socket.close(1000);
    });
  }

  #ping(answerMs) {
    if (!this.#link) return;
    const link = this.#link;
    this.#write(link, { command: 'PING', params: ['alive'] });
    this.#after('answer', answerMs, () => this.#lost(link, 'The server stopped answering.'));
  }

  #lost(link, reason) {
    link.reason = reason;
    link.socket.close();
    this.#closed(link, { code: 1006, reason: '' });
  }

  #closed(link, { code, reason }) {
    const why = link.reason || reason;
    const busy = link.tryLater || closeAdvice(code) === 'later';
    this.#drop();
    if (!this.#identity) return;
    if (closeAdvice(code) === 'stop') {
      this.#stop(why || 'The server closed this session.');
      return;
    }
    const delay = backoffMs(this.#failures, this.#outside.random) + (busy ? TRY_LATER_MS * this.#outside.random() : 0);
    this.#failures += 1;
    this.#status('waiting', { retryAt: this.#outside.now() + delay, reason: why });
    this.#after('retry', delay, () => this.#connect());
  }

  #stop(reason) {
    this.#drop();
    this.#status('stopped', { reason });
  }

  /** Lets go of the present socket without closing it; its later events are not heard. */
  #drop() {
    this.#link = null;
    for (const name of [...this.#timers.keys()]) this.#clear(name);
  }

  #enqueue(message) {
    const link = this.#link;
    if (link.queue.length >= MAX_QUEUED_LINES) {
      this.#lost(link, 'Too many commands were waiting to be sent.');
      return;
    }
    link.queue.push(message);
    this.#flush(link);
  }

  #flush(link) {
    while (link.queue.length > 0 && link.tokens > 0) {
      link.tokens -= 1;
      this.#write(link, link.queue.shift());
    }
    if (link.tokens < PACE_BURST && !this.#timers.has('pace')) {
      this.#after('pace', PACE_EACH_MS, () =>
        this.#ifCurrent(link, () => {
          link.tokens += 1;
          this.#flush(link);
        }),
      );
    }
  }

  #write(link, message) {
    if (link.socket.readyState === 1) link.socket.send(formatLine(message));
  }

  #status(phase, more = {}) {
    this.#outside.emit({ type: 'status', phase, failures: this.#failures, ...more });
  }

  #after(name, delay, act) {
    this.#clear(name);
    this.#timers.set(
      name,
      this.#outside.setTimeout(() => {
        this.#timers.delete(name);
        act();
      }, delay),
    );
  }

  #clear(name) {
    this.#outside.clearTimeout(this.#timers.get(name));
    this.#timers.delete(name);
  }
}
