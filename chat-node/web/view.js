// The room as a whole: conversations, title, people, connection state. Draws from the state, never keeps its own.

import { h, hidden, icon, reconcile, setText, tint } from './dom.js';
import { plainText } from './formatting.js';
import { memberRanks } from './irc.js';
import { rankOf, sign, sortMembers } from './members.js';
import { conversationOrder, networkName } from './state.js';
import { SERVER } from './conversations.js';

const MAX_PEOPLE_SHOWN = 1_000;
const BANNER_AFTER_MS = 1_200;
const RANK_NAMES = { q: 'Owners', a: 'Admins', o: 'Operators', h: 'Half-operators', v: 'With voice' };
const PHASES = {
  idle: 'Not connected',
  connecting: 'Connecting…',
  registering: 'Signing in…',
  resuming: 'Catching up…',
  online: 'Connected',
  moving: 'Moving to another node…',
  waiting: 'Disconnected',
  stopped: 'Disconnected',
};

export class View {
  #chat;
  #acts;
  #tabs = new Map();
  #people = new Map();
  #shown = null;
  #troubleSince = 0;
  #ticker = null;

  /** `acts`: `{ select(key), close(key), openDirect(nick) }`. */
  constructor(chat, acts) {
    this.#chat = chat;
    this.#acts = acts;
    byId('banner-action').addEventListener('click', () => this.#chat.retryNow());
  }

  render(state) {
    const last = this.#shown;
    this.#shown = state;
    const buffer = state.buffers.get(state.active);
    if (state.buffers !== last?.buffers || state.active !== last?.active) {
      this.#drawTabs(state);
      this.#drawTitle(state, buffer);
    }
    const before = last?.buffers.get(last.active);
    if (buffer.members !== before?.members || buffer.kind !== before?.kind || state.support !== last?.support) {
      this.#drawPeople(state, buffer);
    }
    if (state.support !== last?.support) setText(byId('network'), networkName(state));
    setText(byId('me-nick'), state.away ? `${state.nick} (away)` : state.nick);
    if (state.status !== last?.status) this.#drawStatus(state.status);
  }

  #drawTabs(state) {
    const order = conversationOrder(state);
    const sections = { server: '', channel: 'Channels', direct: 'Direct messages' };
    const wanted = [];
    let section = '';
    for (const key of order) {
      const buffer = state.buffers.get(key);
      if (buffer.kind !== section) {
        section = buffer.kind;
        if (sections[section]) wanted.push({ key: `section ${section}`, stamp: '', title: sections[section] });
      }
      const current = key === state.active;
      const label = key === SERVER ? 'Server' : buffer.name;
      const stamp = [label, current, buffer.unread, buffer.mentions, buffer.joined, buffer.away !== ''].join(' ');
      wanted.push({ key, stamp, buffer, label, current });
    }
    reconcile(byId('conversations'), this.#tabs, wanted, (entry) =>
      entry.title ? h('h2', {}, entry.title) : this.#buildTab(entry),
    );
  }

  #buildTab({ key, buffer, label, current }) {
    const { unread, mentions, kind, joined, away } = buffer;
    const closeName = kind === 'channel' ? `Leave ${label}` : `Close the talk with ${label}`;
    const classes = [
      'tab',
      current && 'current',
      unread > 0 && 'unread',
      mentions > 0 && 'meant',
      !joined && 'outside',
      away && 'away',
    ];
    return h(
      'div',
      { class: classes.filter(Boolean).join(' ') },
      h(
        'button',
        {
          type: 'button',
          class: 'tab-name',
          'data-key': key,
          'aria-current': current ? 'true' : null,
          onclick: () => this.#acts.select(key),
        },
        h('span', { class: 'tab-sign', 'aria-hidden': 'true' }, tabSign(kind)),
        h('span', { class: 'tab-label' }, kind === 'channel' ? label.replace(/^#/, '') : label),
        unread > 0 ? h('span', { class: 'badge', 'aria-hidden': 'true' }, unread > 99 ? '99+' : String(unread)) : null,
        unread > 0 ? hidden(`, ${unread} unread${mentions > 0 ? `, ${mentions} for you` : ''}`) : null,
      ),
      kind === 'server'
        ? null
        : h(
            'button',
            {
              type: 'button',
              class: 'tab-close',
              'aria-label': closeName,
              title: closeName,
              onclick: () => this.#acts.close(key),
            },
            icon('close'),
          ),
    );
  }

  #drawTitle(state, buffer) {
    const server = buffer.kind === 'server';
    setText(byId('talk-name'), server ? networkName(state) : buffer.name);
    const topic = byId('topic');
    const text = plainText(buffer.topic);
    topic.hidden = buffer.kind === 'direct' ? buffer.away === '' : server;
    topic.disabled = buffer.kind === 'direct';
    setText(topic, buffer.kind === 'direct' ? `Away: ${plainText(buffer.away)}` : text || 'Set a topic');
    topic.title = text;
    topic.setAttribute('aria-label', text ? `Topic: ${text}` : 'Set a topic');
    topic.classList.toggle('unset', text === '' && buffer.kind === 'channel');
    byId('log').setAttribute('aria-label', `Messages in ${server ? 'the server’s page' : buffer.name}`);
    byId('room').dataset.talk = buffer.kind;
    const mentions = [...state.buffers.values()].reduce((sum, known) => sum + known.mentions, 0);
    const unread = [...state.buffers.values()].some((known) => known.unread > 0);
    const mark = mentions > 0 ? `(${mentions}) ` : unread ? '• ' : '';
    document.title = `${mark}${server ? '' : `${buffer.name} – `}${networkName(state)}`;
  }

  #drawPeople(state, buffer) {
    const members = sortMembers(buffer.members, state.support);
    const ranks = memberRanks(state.support);
    const wanted = [];
    let rank = -1;
    for (const member of members.slice(0, MAX_PEOPLE_SHOWN)) {
      const its = rankOf(member, state.support);
      if (its !== rank) {
        rank = its;
        const count = members.filter((other) => rankOf(other, state.support) === its).length;
        const name = RANK_NAMES[ranks[its]?.mode] ?? 'People';
        wanted.push({ key: `rank ${its}`, stamp: `${name} ${count}`, title: `${name} · ${count}` });
      }
      wanted.push({ key: `nick ${member.nick}`, stamp: `${member.modes} ${member.away}`, member });
    }
    const rest = members.length - MAX_PEOPLE_SHOWN;
    if (rest > 0) wanted.push({ key: 'rest', stamp: String(rest), title: `and ${rest} more` });
    reconcile(byId('people-list'), this.#people, wanted, (entry) =>
      entry.title ? h('h3', {}, entry.title) : this.#buildPerson(entry.member, state),
    );
    setText(byId('people-count'), members.length > 0 ? String(members.length) : '');
    byId('open-people').setAttribute('aria-label', `People, ${members.length} here`);
    byId('open-people').hidden = buffer.kind !== 'channel';
  }

  #buildPerson(member, state) {
    const self = member.nick === state.nick;
    const its = sign(member, state.support);
    const rank =
      its === ''
        ? null
        : hidden(`, ${RANK_NAMES[memberRanks(state.support).find((known) => known.sign === its).mode] ?? its}`);
    return h(
      'button',
      {
        type: 'button',
        class: `person${member.away ? ' away' : ''}`,
        'data-nick': member.nick,
        title: self ? 'This is you' : `Talk with ${member.nick}`,
        disabled: self,
        onclick: () => this.#acts.openDirect(member.nick),
      },
      h('span', { class: 'person-sign', 'aria-hidden': 'true' }, its),
      h('span', { class: `person-nick ${tint(member.nick)}` }, member.nick),
      self ? h('span', { class: 'person-note' }, 'you') : null,
      member.away ? h('span', { class: 'person-note' }, 'away') : null,
      rank,
    );
  }

  #drawStatus(status) {
    byId('status').dataset.phase = status.phase;
    setText(byId('status-text'), PHASES[status.phase]);
    const fine = status.phase === 'online';
    if (fine) this.#troubleSince = 0;
    else if (this.#troubleSince === 0) this.#troubleSince = Date.now();
    clearInterval(this.#ticker);
    this.#ticker = fine ? null : setInterval(() => this.#drawBanner(this.#shown.status), 500);
    this.#drawBanner(status);
  }

  /** Shown only when trouble lasts, so that a quick resume goes unnoticed. */
  #drawBanner(status) {
    const banner = byId('banner');
    const lasting = this.#troubleSince > 0 && Date.now() - this.#troubleSince >= BANNER_AFTER_MS;
    banner.hidden = !(lasting || status.phase === 'stopped') || status.phase === 'idle';
    if (banner.hidden) return;
    banner.dataset.phase = status.phase;
    setText(byId('banner-text'), bannerText(status));
    const action = byId('banner-action');
    action.hidden = status.phase !== 'waiting' && status.phase !== 'stopped';
    setText(action, status.phase === 'stopped' ? 'Connect again' : 'Try now');
  }
}

function bannerText({ phase, retryAt, reason }) {
  const why = reason ? ` ${reason.replace(/[.\s]*$/, '')}.` : '';
  switch (phase) {
    case 'waiting': {
      const seconds = Math.max(0, Math.ceil((retryAt - Date.now()) / 1000));
      const when = seconds > 0 ? `Trying again in ${seconds} s.` : 'Trying again…';
      return `The connection is lost.${why} ${when} What you write is sent then.`;
    }
    case 'stopped':
      return `This page is disconnected.${why}`;
    case 'resuming':
      return 'Connected again. Fetching what you missed…';
    case 'moving':
      return 'The server asked to move to another node. You can go on writing.';
    default:
      return 'Connecting…';
  }
}

function tabSign(kind) {
  if (kind === 'channel') return '#';
  return kind === 'direct' ? '@' : '⌂';
}

function byId(id) {
  return document.getElementById(id);
}
