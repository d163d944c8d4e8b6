// What the server's numerics and standard replies mean, in words and with what to do. Pure.

/** Texts get the line's parameters after the nick; `about` is the one that names the channel or person. */
const NUMERICS = {
  401: { text: ([name]) => `${name} is not here. Check the spelling, or look who is in the channel.`, about: 0 },
  402: { text: ([name]) => `There is no server called ${name}.` },
  403: { text: ([name]) => `There is no channel ${name}. A channel’s name begins with #.`, about: 0 },
  404: {
    text: ([name]) => `You may not talk in ${name}. It may be moderated, or you may have to join it first.`,
    about: 0,
  },
  405: { text: ([name]) => `You are in too many channels to join ${name}. Leave one first.`, about: 0 },
  406: { text: ([name]) => `Nobody called ${name} was here lately.` },
  407: { text: () => 'Too many receivers at once. Send it to fewer.' },
  411: { text: () => 'The message has no receiver.' },
  412: { text: () => 'There was no text to send.' },
  415: { text: () => 'The server cannot send to this kind of name.' },
  417: { text: () => 'That line is too long for the server. Split it into shorter messages.' },
  421: { text: ([name]) => `The server does not know the command ${name}. /help lists those of this page.` },
  422: null,
  431: { text: () => 'A nick is missing.' },
  432: {
    text: ([name]) =>
      `“${name}” cannot be a nick. Use letters, digits and - _ [ ] { } | ^, not beginning with a digit.`,
  },
  433: { text: ([name]) => `The nick ${name} is taken. Choose another.` },
  436: { text: ([name]) => `The nick ${name} is taken. Choose another.` },
  437: { text: ([name]) => `${name} cannot be used just now. Try again later or choose another.` },
  441: { text: ([who, where]) => `${who} is not in ${where}.`, about: 1 },
  442: { text: ([name]) => `You are not in ${name}. Join it first.`, about: 0 },
  443: { text: ([who, where]) => `${who} is already in ${where}.`, about: 1 },
  451: { text: () => 'The connection is not registered yet. Wait a moment and try again.' },
  461: { text: ([name]) => `${name} needs more than that. See /help ${name.toLowerCase()}.` },
  462: { text: () => 'You are already registered.' },
  463: { text: () => 'This server does not admit connections from your address.' },
  464: { text: () => 'The password is wrong. Check it and try again.' },
  465: { text: (params) => `You are banned from this server: ${params.at(-1)}` },
  467: { text: ([name]) => `${name} has a key already. Remove it before setting another.`, about: 0 },
  471: { text: ([name]) => `${name} is full. Try again later.`, about: 0 },
  472: { text: ([mode]) => `The server has no mode “${mode}”.` },
  473: { text: ([name]) => `${name} is by invitation only. Ask one of its operators for /invite.`, about: 0 },
  474: { text: ([name]) => `You are banned from ${name}.`, about: 0 },
  475: { text: ([name]) => `${name} needs its key: /join ${name} KEY`, about: 0 },
  476: { text: ([name]) => `“${name}” cannot be a channel’s name.`, about: 0 },
  477: { text: ([name]) => `${name} is for registered people only.`, about: 0 },
  478: { text: ([name]) => `The list of ${name} is full. Remove an entry first.`, about: 0 },
  481: { text: () => 'That is for server operators only.' },
  482: { text: ([name]) => `Only operators of ${name} may do that.`, about: 0 },
  489: { text: ([name]) => `${name} admits only secure connections.`, about: 0 },
  501: { text: () => 'The server does not know that user mode.' },
  502: { text: () => 'You can change only your own modes.' },
  525: { text: ([name]) => `That is not a possible key for ${name}.`, about: 0 },
  696: { text: (params) => `That value does not fit the mode: ${params.at(-1)}` },
};

const REPLIES = {
  READ_ONLY: 'The room cannot take messages at the moment. Reading goes on; yours will be sent as soon as it can.',
  UNKNOWN_RESULT: 'The room could not say whether this was stored. It is asked again; nothing will appear twice.',
  DUPLICATE_WINDOW:
    'This message is too old for the room to tell whether it has arrived. Look above before sending it again.',
  ID_REUSED: 'The room has another message under this number. Send it again.',
  INVALID_UTF8: 'The text was not valid UTF-8 and was refused.',
  INVALID_TARGET: 'The room cannot send to that name. Check it, or join the channel first.',
  INVALID_TOKEN: 'Your earlier session has ended. You are being signed in anew.',
  ACCOUNT_REQUIRED: 'This room needs an account.',
  NEED_MORE_PARAMS: 'The command needs more than that. See /help.',
  UNKNOWN_COMMAND: 'The server does not know that command. /help lists those of this page.',
};

const TEMPORARY = new Set(['READ_ONLY', 'UNKNOWN_RESULT', 'TRY_AGAIN']);

/**
 * What a line of refusal says: `{ text, about, code, temporary, numeric }`, or null when the line is none.
 * `about` names the channel or person concerned, or is empty.
 */
export function explainRefusal({ command, params }) {
  if (command === 'FAIL' || command === 'WARN') return explainReply(params);
  if (!/^[45]\d\d$|^69\d$/.test(command)) return null;
  const rest = params.slice(1);
  const known = NUMERICS[command];
  if (known === null) return null;
  const text = known ? known.text(rest) : (rest.at(-1) ?? command);
  const about = known?.about === undefined ? '' : (rest[known.about] ?? '');
  return { text, about, code: command, temporary: false };
}

function explainReply(params) {
  const [command = '', code = '', ...context] = params;
  const said = context.length > 0 ? context.at(-1) : '';
  const about = context.slice(0, -1).find((word) => /^[#&@+~%]/.test(word)) ?? '';
  const name = command === '*' ? '' : `${command}: `;
  const text = REPLIES[code] ?? (said === '' ? `${name}${code}` : `${name}${said}`);
  return { text, about, code, temporary: TEMPORARY.has(code) };
}

const CHANNEL_MODES = {
  C: ['refuses CTCP', 'admits CTCP'],
  R: ['only registered people may join', 'everybody may join, registered or not'],
  i: ['by invitation only', 'no longer by invitation only'],
  m: ['moderated: only people with voice may talk', 'no longer moderated'],
  n: ['no messages from outside', 'messages from outside are taken'],
  s: ['secret', 'no longer secret'],
  t: ['only operators set the topic', 'everybody may set the topic'],
};
const MEMBER_MODES = { q: 'an owner', a: 'an admin', o: 'an operator', h: 'a half-operator' };

/** One mode change as a clause that follows a name: “made bob an operator”. */
export function explainMode({ add, mode, param, member }) {
  if (member && mode === 'v') return add ? `gave voice to ${param}` : `took voice from ${param}`;
  if (member) {
    const rank = MEMBER_MODES[mode] ?? `+${mode}`;
    return add ? `made ${param} ${rank}` : `no longer has ${param} as ${rank}`;
  }
  if (mode === 'b') return add ? `banned ${param}` : `lifted the ban on ${param}`;
  if (mode === 'k') return add ? 'set a key' : 'removed the key';
  if (mode === 'l') return add ? `limited the channel to ${param} people` : 'removed the limit of people';
  const words = CHANNEL_MODES[mode]?.[add ? 0 : 1];
  const sign = `${add ? '+' : '-'}${mode}${param === '' ? '' : ` ${param}`}`;
  return words ? `set ${sign} (${words})` : `set ${sign}`;
}
