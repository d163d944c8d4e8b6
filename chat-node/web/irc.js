// IRC lines as values: parsing, formatting, tag escaping, names, the limits a server advertises.
// Pure: no DOM, no clock, no socket. Sources: modern.ircdocs.horse, ircv3.net "message tags".

const TAG_UNESCAPE = { ':': ';', s: ' ', r: '\r', n: '\n', '\\': '\\' };
const TAG_ESCAPE = { ';': '\\:', ' ': '\\s', '\r': '\\r', '\n': '\\n', '\\': '\\\\' };
const utf8 = new TextEncoder();

/** A tag's value as it was before escaping; a lone backslash at the end is dropped, as specified. */
export function unescapeTag(value) {
  return value.replace(/\\(.?)/gs, (_, next) => TAG_UNESCAPE[next] ?? next);
}

export function escapeTag(value) {
  return value.replace(/[; \r\n\\]/g, (character) => TAG_ESCAPE[character]);
}

/**
 * One line as `{ tags, source, command, params }`, or null when it holds no command.
 * `tags` has no prototype, so a tag may have any name.
 */
export function parseLine(line) {
  let rest = line.replace(/[\r\n]+$/, '');
  const tags = Object.create(null);
  if (rest.startsWith('@')) {
    const [head, tail] = cut(rest.slice(1));
    for (const tag of head.split(';')) {
      if (tag === '') continue;
      const equals = tag.indexOf('=');
      if (equals < 0) tags[tag] = '';
      else tags[tag.slice(0, equals)] = unescapeTag(tag.slice(equals + 1));
    }
    rest = tail;
  }
  let source = '';
  if (rest.startsWith(':')) {
    const [head, tail] = cut(rest.slice(1));
    source = head;
    rest = tail;
  }
  const [command, tail] = cut(rest);
  if (!/^[A-Za-z0-9]+$/.test(command)) return null;
  const params = [];
  rest = tail;
  while (rest !== '') {
    if (rest.startsWith(':')) {
      params.push(rest.slice(1));
      break;
    }
    const [head, next] = cut(rest);
    params.push(head);
    rest = next;
  }
  return { tags, source, command: command.toUpperCase(), params };
}

/** The text before the first run of spaces and the text after it. */
function cut(text) {
  const space = text.indexOf(' ');
  if (space < 0) return [text, ''];
  return [text.slice(0, space), text.slice(space).replace(/^ +/, '')];
}

/** The line for `{ tags?, command, params? }`. Throws when the values cannot be one line. */
export function formatLine({ tags = {}, command, params = [] }) {
  const words = [command];
  params.forEach((param, index) => {
    const last = index === params.length - 1;
    if (/[\r\n\0]/.test(param)) throw new Error(`${command}: a parameter holds a line break or NUL`);
    const needsColon = param === '' || param.startsWith(':') || param.includes(' ');
    if (needsColon && !last) {
      throw new Error(`${command}: only the last parameter may be empty, hold a space or begin with ":"`);
    }
    words.push(needsColon ? `:${param}` : param);
  });
  const written = Object.entries(tags).map(([name, value]) => (value === '' ? name : `${name}=${escapeTag(value)}`));
  const prefix = written.length > 0 ? `@${written.join(';')} ` : '';
  return prefix + words.join(' ');
}

/** Nick, user and host of a source such as `nick!user@host`. */
export function parseSource(source) {
  const match = /^([^!@]*)(?:!([^@]*))?(?:@(.*))?$/s.exec(source);
  return match ? { nick: match[1], user: match[2] ?? '', host: match[3] ?? '' } : { nick: source, user: '', host: '' };
}

/** Folds a nick or a channel's name for comparison (CASEMAPPING=ascii). */
export function fold(name) {
  return name.replace(/[A-Z]/g, (letter) => letter.toLowerCase());
}

export function byteLength(text) {
  return utf8.encode(text).length;
}

/** Splits text into pieces of at most `limit` UTF-8 bytes, at spaces where it can, never inside a character. */
export function splitText(text, limit) {
  const pieces = [];
  let rest = text;
  while (byteLength(rest) > limit) {
    let bytes = 0;
    let end = 0;
    let space = -1;
    for (const character of rest) {
      bytes += byteLength(character);
      if (bytes > limit) break;
      if (character === ' ' && end > 0) space = end;
      end += character.length;
    }
    if (end === 0) end = [...rest][0].length;
    const at = space > 0 ? space : end;
    pieces.push(rest.slice(0, at));
    rest = rest.slice(space > 0 ? at + 1 : at);
  }
  if (rest !== '' || pieces.length === 0) pieces.push(rest);
  return pieces;
}

/** What holds until a server says otherwise with 005. */
export function defaultSupport() {
  return { CHANTYPES: '#', PREFIX: '(ov)@+', CHANMODES: 'beI,k,l,imnst', STATUSMSG: '@+', LINELEN: '512' };
}

/** `support` with the tokens of one 005 line (its parameters without the nick and the closing text). */
export function readSupport(support, tokens) {
  const next = { ...support };
  for (const token of tokens) {
    if (token.startsWith('-')) {
      delete next[token.slice(1)];
      continue;
    }
    const equals = token.indexOf('=');
    const name = equals < 0 ? token : token.slice(0, equals);
    const value = equals < 0 ? '' : token.slice(equals + 1);
    next[name] = value.replace(/\\x([0-9A-Fa-f]{2})/g, (_, hex) => String.fromCharCode(parseInt(hex, 16)));
  }
  return next;
}

/** Member modes and their signs, highest rank first: `[{ mode: 'o', sign: '@' }, …]`. */
export function memberRanks(support) {
  const match = /^\((\w*)\)(.*)$/.exec(support.PREFIX ?? '');
  if (!match) return [];
  return [...match[1]].map((mode, index) => ({ mode, sign: match[2][index] }));
}

export function isChannel(name, support) {
  return name !== '' && (support.CHANTYPES ?? '#').includes(name[0]);
}

/** The channel behind a status target such as `@#rust`, with the sign that was before it. */
export function statusTarget(target, support) {
  const signs = support.STATUSMSG ?? '';
  if (signs.includes(target[0]) && isChannel(target.slice(1), support)) {
    return { sign: target[0], target: target.slice(1) };
  }
  return { sign: '', target };
}

/** The changes of a MODE line: `[{ add, mode, param, member }]`, `member` true where the parameter is a nick. */
export function readModes([letters = '', ...values], support) {
  const [list = '', always = '', whenSet = ''] = (support.CHANMODES ?? '').split(',');
  const members = memberRanks(support)
    .map((rank) => rank.mode)
    .join('');
  const changes = [];
  let add = true;
  for (const mode of letters) {
    if (mode === '+' || mode === '-') {
      add = mode === '+';
      continue;
    }
    const member = members.includes(mode);
    const takes = member || list.includes(mode) || always.includes(mode) || (add && whenSet.includes(mode));
    changes.push({ add, mode, member, param: takes ? (values.shift() ?? '') : '' });
  }
  return changes;
}

/** How many bytes of text fit in one message to `target`, as the receivers' server must send it on. */
export function textRoom({ command = 'PRIVMSG', target, nick, support }) {
  const source = 1 + byteLength(nick) + 1 + Number(support.USERLEN ?? 18) + 1 + Number(support.HOSTLEN ?? 63) + 1;
  const head = command.length + 1 + byteLength(target) + 2;
  return Math.max(64, Number(support.LINELEN ?? 512) - 2 - source - head);
}
