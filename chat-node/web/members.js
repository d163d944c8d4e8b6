// Who is in a channel, with which ranks, in which order. Pure.

import { fold, memberRanks, parseSource } from './irc.js';

/** Somebody in a channel; `modes` are the letters of the ranks held there. */
export function newMember(nick, modes) {
  return { nick, modes, away: false };
}

export function withoutMember(members, key) {
  const next = new Map(members);
  next.delete(key);
  return next;
}

/** `members` after one change of a MODE line; those without a member's rank change nothing. */
export function withRank(members, { add, mode, param, member }) {
  const known = member ? members.get(fold(param)) : undefined;
  if (!known) return members;
  const others = known.modes.replace(mode, '');
  return new Map(members).set(fold(param), { ...known, modes: add ? others + mode : others });
}

/** `@+bob` or `@bob!user@host` of NAMES as a member. */
export function readName(entry, support) {
  const ranks = memberRanks(support);
  let modes = '';
  let at = 0;
  for (; at < entry.length; at += 1) {
    const rank = ranks.find((known) => known.sign === entry[at]);
    if (!rank) break;
    modes += rank.mode;
  }
  return newMember(parseSource(entry.slice(at)).nick, modes);
}

/** Place of a member's highest rank; ranks.length for none. */
export function rankOf(member, support) {
  const ranks = memberRanks(support);
  const at = ranks.findIndex((rank) => member.modes.includes(rank.mode));
  return at < 0 ? ranks.length : at;
}

/** The sign before a member's nick, such as `@`, or nothing. */
export function sign(member, support) {
  return memberRanks(support)[rankOf(member, support)]?.sign ?? '';
}

/** Members by rank, then name. */
export function sortMembers(members, support) {
  return [...members]
    .map(([key, member]) => ({ key, member, rank: rankOf(member, support) }))
    .sort((a, b) => a.rank - b.rank || (a.key < b.key ? -1 : 1))
    .map(({ member }) => member);
}
