// Registration and resume as lines in, lines out: CAP, PASS, NICK, USER, RESUME. No socket, no clock.

const WANTED = [
  'message-tags',
  'server-time',
  'batch',
  'echo-message',
  'labeled-response',
  'standard-replies',
  'multi-prefix',
  'extended-join',
  'away-notify',
  'account-notify',
  'chghost',
  'setname',
  'invite-notify',
  'cap-notify',
  'draft/chathistory',
  'chatroom.dev/id',
  'chatroom.dev/resume',
];
const RESUME = 'chatroom.dev/resume';
const REQUEST_BYTES = 400;
const OTHER_NICKS = 5;
const NICK_REFUSED = new Set(['431', '432', '433', '436', '437']);
const NOT_ADMITTED = new Set(['463', '464', '465', '466']);

export class Handshake {
  #identity;
  #tokens;
  #seen;
  #offered = new Set();
  #waiting = 0;
  #nick;
  #tried = 0;
  #stage = 'capabilities';
  caps = new Set();

  /**
   * `identity`: `{ nick, password, alternate }`; `alternate` allows `nick_` where the nick is taken.
   * `resume`: `{ tokens, seen }` or null; the tokens are shown one after the other until one is taken, `seen` are the
   * last msgids per stream.
   */
  constructor(identity, resume) {
    this.#identity = identity;
    this.#tokens = [...(resume?.tokens ?? [])];
    this.#seen = resume?.seen ?? [];
    this.#nick = identity.nick;
  }

  /** The token that was shown last; empty when the session is a new one. */
  get shown() {
    return this.#tokens[0] ?? '';
  }

  get done() {
    return this.#stage === 'done';
  }

  begin() {
    return [{ command: 'CAP', params: ['LS', '302'] }];
  }

  /**
   * Takes one line and answers `{ send: [...], event }`. `event` is null or one of
   * `{ type: 'resuming' }`, `{ type: 'registered', nick }`, `{ type: 'resumed', nick }`,
   * `{ type: 'tokenRefused' }`, `{ type: 'tryLater', text }`, `{ type: 'nickRefused', code, nick, text }`,
   * `{ type: 'refused', text }`.
   */
  receive({ command, params }) {
    if (this.#stage === 'done') return nothing();
    const text = params.at(-1) ?? '';
    switch (command) {
      case 'CAP':
        return this.#capability(params);
      case 'RESUME':
        if (params[0] !== 'SUCCESS') return nothing();
        this.#stage = 'done';
        return { send: [], event: { type: 'resumed', nick: params[1] } };
      case 'FAIL':
        return this.#failed(params, text);
      case '376':
      case '422':
        this.#stage = 'done';
        return { send: [], event: { type: 'registered', nick: params[0] } };
      case '421':
        return params[1]?.toUpperCase() === 'CAP' ? { send: this.#register(), event: null } : nothing();
      default:
        if (NICK_REFUSED.has(command)) return this.#anotherNick(command, text);
        if (NOT_ADMITTED.has(command)) return { send: [], event: { type: 'refused', code: command, text } };
        return nothing();
    }
  }

  #capability([, verb = '', ...rest]) {
    const names = (rest.at(-1) ?? '')
      .split(' ')
      .filter((name) => name !== '')
      .map((name) => name.split('=')[0]);
    switch (verb.toUpperCase()) {
      case 'LS':
        names.forEach((name) => this.#offered.add(name));
        return rest[0] === '*' ? nothing() : { send: this.#request(), event: null };
      case 'ACK':
        names.forEach((name) => this.caps.add(name));
        return this.#answered();
      case 'NAK':
        return this.#answered();
      default:
        return nothing();
    }
  }

  #request() {
    const wanted = WANTED.filter((name) => this.#offered.has(name));
    if (wanted.length === 0) return [...this.#register(), { command: 'CAP', params: ['END'] }];
    const lines = [[]];
    for (const name of wanted) {
      if ([...lines.at(-1), name].join(' ').length > REQUEST_BYTES) lines.push([]);
      lines.at(-1).push(name);
    }
    this.#waiting = lines.length;
    return lines.map((names) => ({ command: 'CAP', params: ['REQ', names.join(' ')] }));
  }

  #answered() {
    this.#waiting -= 1;
    if (this.#waiting !== 0) return nothing();
    const end = { command: 'CAP', params: ['END'] };
    if (this.#tokens.length > 0 && this.caps.has(RESUME)) {
      this.#stage = 'resume';
      return { send: [...resumeLines(this.#tokens[0], this.#seen), end], event: { type: 'resuming' } };
    }
    const event = this.#tokens.length === 0 ? null : { type: 'tokenRefused' };
    return { send: [...this.#register(), end], event };
  }

  #register() {
    this.#stage = 'register';
    this.#tokens = [];
    const lines = [{ command: 'NICK', params: [this.#nick] }];
    lines.push({ command: 'USER', params: [userName(this.#identity.nick), '0', '*', this.#identity.nick] });
    if (this.#identity.password) lines.unshift({ command: 'PASS', params: [this.#identity.password] });
    return lines;
  }

  #failed([command, code], text) {
    if (command !== 'RESUME' || this.#stage !== 'resume') return nothing();
    if (code === 'TRY_AGAIN') return { send: [], event: { type: 'tryLater', text } };
    if (code === 'INVALID_TOKEN' && this.#tokens.length > 1) {
      this.#tokens.shift();
      // The request holds the registration until all lines are there; what it asks for is on already.
      const hold = { command: 'CAP', params: ['REQ', RESUME] };
      const lines = resumeLines(this.#tokens[0], this.#seen);
      return { send: [hold, ...lines, { command: 'CAP', params: ['END'] }], event: null };
    }
    return { send: this.#register(), event: { type: 'tokenRefused' } };
  }

  #anotherNick(code, text) {
    if (!this.#identity.alternate || this.#tried >= OTHER_NICKS) {
      return { send: [], event: { type: 'nickRefused', code, nick: this.#nick, text } };
    }
    this.#tried += 1;
    this.#nick = `${this.#nick}_`;
    return { send: [{ command: 'NICK', params: [this.#nick] }], event: null };
  }
}

function nothing() {
  return { send: [], event: null };
}

/** `RESUME <token> <msgids>` and, where these fill more than a line, `RESUME + <msgids>`. */
function resumeLines(token, seen) {
  if (seen.length === 0) return [{ command: 'RESUME', params: [token, '*'] }];
  const lines = [];
  let room = REQUEST_BYTES - token.length;
  let first = token;
  let group = [];
  for (const msgid of seen) {
    if (group.length > 0 && group.join(',').length + msgid.length > room) {
      lines.push({ command: 'RESUME', params: [first, group.join(',')] });
      [first, room, group] = ['+', REQUEST_BYTES, []];
    }
    group.push(msgid);
  }
  lines.push({ command: 'RESUME', params: [first, group.join(',')] });
  return lines;
}

/** A user name that every server accepts: short, plain letters and digits. */
function userName(nick) {
  return (
    nick
      .replace(/[^A-Za-z0-9]/g, '')
      .slice(0, 10)
      .toLowerCase() || 'web'
  );
}
