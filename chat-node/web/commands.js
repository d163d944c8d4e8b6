// What a typed line asks for: text to say, a command of this page, or a complaint that says the right form. Pure.

import { isChannel } from './irc.js';

/** Every command's form and purpose, in the order that help shows. */
export const COMMANDS = {
  join: { form: '/join #channel [key]', help: 'Join a channel; several with commas.' },
  part: { form: '/part [#channel] [reason]', help: 'Leave a channel.' },
  msg: { form: '/msg nick text', help: 'Send a direct message.' },
  query: { form: '/query nick', help: 'Open a direct conversation.' },
  me: { form: '/me does something', help: 'Say what you are doing.' },
  notice: { form: '/notice target text', help: 'Send a notice.' },
  nick: { form: '/nick newname', help: 'Change your nick.' },
  topic: { form: '/topic [text]', help: 'Show or set the topic.' },
  away: { form: '/away [reason]', help: 'Say that you are away; without a reason, that you are back.' },
  names: { form: '/names [#channel]', help: 'Show who is here.' },
  whois: { form: '/whois nick', help: 'Show who somebody is.' },
  list: { form: '/list', help: 'Browse the channels.' },
  invite: { form: '/invite nick [#channel]', help: 'Invite somebody.' },
  kick: { form: '/kick nick [reason]', help: 'Remove somebody from this channel.' },
  mode: { form: '/mode [target] changes', help: 'Show or change modes, for instance /mode +o bob.' },
  close: { form: '/close', help: 'Close this conversation.' },
  quote: { form: '/quote COMMAND …', help: 'Send a line as it is.' },
  quit: { form: '/quit [reason]', help: 'Leave the room and end the session.' },
  help: { form: '/help [command]', help: 'Show this.' },
};
const ALIASES = { j: 'join', leave: 'part', raw: 'quote', q: 'query', w: 'whois', n: 'names', exit: 'quit' };

/**
 * The action of one typed line. `place`: `{ target, kind }`, the open conversation. Answers one of
 * `{ do: 'say', target, kind, text, open }`, `{ do: 'send', message }`, `{ do: 'open', target }`,
 * `{ do: 'join', channels, keys }`, `{ do: 'part', target, reason }`, `{ do: 'names', target }`, `{ do: 'list' }`,
 * `{ do: 'close' }`, `{ do: 'quit', reason }`, `{ do: 'tell', lines }`, `{ do: 'complain', text }`.
 */
export function readInput(line, place, support) {
  if (!line.startsWith('/') || line.startsWith('//')) {
    return say(place.target, 'message', line.startsWith('//') ? line.slice(1) : line, place);
  }
  const [, typed, rest] = /^\/(\S*)\s*(.*)$/s.exec(line);
  const lower = typed.toLowerCase();
  const name = ALIASES[lower] ?? lower;
  if (!Object.hasOwn(READERS, name)) {
    return complain(`There is no command /${typed}. /help lists them; “//” begins a text with “/”.`);
  }
  return READERS[name]({ rest: rest.trimEnd(), place, support });
}

const READERS = {
  join({ rest, support }) {
    const [names = '', keys = ''] = rest.split(/\s+/);
    if (names === '') return form('join');
    const channels = names
      .split(',')
      .filter(Boolean)
      .map((name) => (isChannel(name, support) ? name : `#${name}`));
    return { do: 'join', channels, keys: keys === '' ? [] : keys.split(',') };
  },
  part({ rest, place, support }) {
    const [target, reason] = channelFirst(rest, place, support);
    return target === '' ? form('part') : { do: 'part', target, reason };
  },
  msg({ rest }) {
    const [target, text] = word(rest);
    return target === '' || text === '' ? form('msg') : { do: 'say', target, kind: 'privmsg', text, open: true };
  },
  query({ rest }) {
    const [target, text] = word(rest);
    if (target === '') return form('query');
    return text === '' ? { do: 'open', target } : { do: 'say', target, kind: 'privmsg', text, open: true };
  },
  me({ rest, place }) {
    return rest === '' ? form('me') : say(place.target, 'action', rest, place);
  },
  notice({ rest }) {
    const [target, text] = word(rest);
    return target === '' || text === '' ? form('notice') : { do: 'say', target, kind: 'notice', text, open: false };
  },
  nick({ rest }) {
    return rest === '' || rest.includes(' ') ? form('nick') : send('NICK', rest);
  },
  topic({ rest, place, support }) {
    const [target, text] = channelFirst(rest, place, support);
    if (target === '') return form('topic');
    return text === '' ? send('TOPIC', target) : send('TOPIC', target, text);
  },
  away({ rest }) {
    return rest === '' ? send('AWAY') : send('AWAY', rest);
  },
  names({ rest, place, support }) {
    const [target] = channelFirst(rest, place, support);
    return target === '' ? form('names') : { do: 'names', target };
  },
  whois({ rest, place }) {
    const nick = rest || (place.kind === 'direct' ? place.target : '');
    return nick === '' || nick.includes(' ') ? form('whois') : send('WHOIS', nick);
  },
  list() {
    return { do: 'list' };
  },
  invite({ rest, place }) {
    const [nick, channel] = word(rest);
    const target = channel || (place.kind === 'channel' ? place.target : '');
    return nick === '' || target === '' ? form('invite') : send('INVITE', nick, target);
  },
  kick({ rest, place, support }) {
    const [target, after] = channelFirst(rest, place, support);
    const [nick, reason] = word(after);
    if (target === '' || nick === '') return form('kick');
    return reason === '' ? send('KICK', target, nick) : send('KICK', target, nick, reason);
  },
  mode({ rest, place, support }) {
    const words = rest.split(/\s+/).filter(Boolean);
    const named = words.length > 0 && !/^[+-]/.test(words[0]);
    if (named && !isChannel(words[0], support) && words.length === 1) return form('mode');
    const target = named ? words.shift() : place.target;
    return target === '' ? form('mode') : send('MODE', target, ...words);
  },
  close: () => ({ do: 'close' }),
  quote({ rest }) {
    const [command, params] = word(rest);
    if (!/^[A-Za-z]+$|^\d{3}$/.test(command)) return form('quote');
    return send(command.toUpperCase(), ...rawParams(params));
  },
  quit: ({ rest }) => ({ do: 'quit', reason: rest }),
  help({ rest }) {
    const name = rest.replace(/^\//, '').toLowerCase();
    const known = ALIASES[name] ?? name;
    if (Object.hasOwn(COMMANDS, known))
      return { do: 'tell', lines: [`${COMMANDS[known].form} – ${COMMANDS[known].help}`] };
    const all = Object.values(COMMANDS).map((command) => `${command.form} – ${command.help}`);
    return { do: 'tell', lines: ['Commands:', ...all, ...KEYS] };
  },
};

export const KEYS = [
  'Keys:',
  'Ctrl+K – go to a conversation',
  'Alt+↑ and Alt+↓ – the conversation above and below; with Shift, the next one with something new',
  'Tab – complete a nick, channel or command',
  '↑ in an empty field – what you sent before',
  'Esc – close what is open, or back to the message field',
];

function say(target, kind, text, place) {
  if (place.kind === 'server') {
    return complain('This is the server’s page; there is nobody to hear you. Join a channel with /join #name.');
  }
  return { do: 'say', target, kind: kind === 'message' ? 'privmsg' : kind, text, open: false };
}

function send(command, ...params) {
  return { do: 'send', message: { command, params } };
}

function form(name) {
  return complain(`Use it like this: ${COMMANDS[name].form}`);
}

function complain(text) {
  return { do: 'complain', text };
}

/** The first word and the rest. */
function word(text) {
  const [, first, rest] = /^(\S*)\s*(.*)$/s.exec(text);
  return [first, rest];
}

/** The channel named first, or the one that is open, and the rest. */
function channelFirst(text, place, support) {
  const [first, rest] = word(text);
  if (isChannel(first, support)) return [first, rest];
  return [place.kind === 'channel' ? place.target : '', text];
}

function rawParams(text) {
  const colon = / :|^:/.exec(text);
  const head = colon ? text.slice(0, colon.index) : text;
  const params = head.split(/\s+/).filter(Boolean);
  if (colon) params.push(text.slice(colon.index).replace(/^ ?:/, ''));
  return params;
}
