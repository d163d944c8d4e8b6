// Tab completion of nicks, channels and commands in the message field. Pure.

import { fold } from './irc.js';
import { COMMANDS } from './commands.js';

/**
 * The ways to complete the word before the caret, best first: `[{ text, caret }]` of the whole field.
 * `people` are nicks in the order they are to be offered, `channels` names.
 */
export function completions(text, caret, { people, channels }) {
  const start = text.slice(0, caret).search(/\S+$/);
  if (start < 0) return [];
  const part = text.slice(start, caret);
  const after = text.slice(caret);
  const found = candidates(part, start === 0, people, channels);
  return found.map((word) => {
    const before = text.slice(0, start) + word + (after.startsWith(' ') ? '' : ' ');
    return { text: before + after, caret: before.length };
  });
}

function candidates(part, atStart, people, channels) {
  if (atStart && part.startsWith('/')) {
    return Object.keys(COMMANDS)
      .map((name) => `/${name}`)
      .filter((name) => name.startsWith(part.toLowerCase()));
  }
  if (part.startsWith('#')) return channels.filter((name) => fold(name).startsWith(fold(part)));
  const at = part.startsWith('@') ? '@' : '';
  const wanted = fold(part.slice(at.length));
  const nicks = people.filter((nick) => fold(nick).startsWith(wanted));
  return nicks.map((nick) => (atStart ? `${at}${nick}:` : `${at}${nick}`));
}
