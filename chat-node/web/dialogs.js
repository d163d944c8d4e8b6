// The dialogs: going to a conversation, browsing channels, reading and setting a topic.

import { h, setText } from './dom.js';
import { fold, isChannel } from './irc.js';
import { conversationOrder } from './state.js';
import { textNodes } from './rows-view.js';

const MAX_OPTIONS = 12;
const MAX_BROWSED = 200;

export class Dialogs {
  #chat;
  #choices = [];
  #at = 0;
  #list = null;

  constructor(chat) {
    this.#chat = chat;
    for (const dialog of document.querySelectorAll('dialog')) {
      dialog.querySelector('[data-close]')?.addEventListener('click', () => dialog.close());
      dialog.addEventListener('click', (event) => {
        if (event.target === dialog) dialog.close();
      });
    }
    byId('switcher-query').addEventListener('input', () => this.#find());
    byId('switcher-query').addEventListener('keydown', (event) => this.#pressed(event));
    byId('browse-form').addEventListener('submit', (event) => {
      event.preventDefault();
      this.#join(byId('browse-query').value.trim());
    });
    byId('browse-query').addEventListener('input', () => this.#drawList());
    byId('topic-form').addEventListener('submit', (event) => {
      event.preventDefault();
      const { state } = this.#chat;
      if (this.#chat.setTopic(state.active, byId('topic-text').value.replace(/\s+/g, ' ').trim()))
        byId('topic-dialog').close();
    });
  }

  get open() {
    return document.querySelector('dialog[open]') !== null;
  }

  closeAll() {
    for (const dialog of document.querySelectorAll('dialog[open]')) dialog.close();
  }

  render(state) {
    if (byId('browse').open && state.list !== this.#list) this.#drawList();
  }

  switcher() {
    byId('switcher-query').value = '';
    byId('switcher').showModal();
    byId('switcher-query').focus();
    this.#find();
  }

  browse() {
    byId('browse-query').value = '';
    byId('browse').showModal();
    byId('browse-query').focus();
    this.#chat.browse();
    this.#drawList();
  }

  topic() {
    const { state } = this.#chat;
    const buffer = state.buffers.get(state.active);
    setText(byId('topic-title'), `Topic of ${buffer.name}`);
    const by = buffer.topicBy === '' ? '' : `Set by ${buffer.topicBy}`;
    byId('topic-shown').replaceChildren(
      h('p', { dir: 'auto' }, ...(buffer.topic === '' ? ['No topic is set.'] : textNodes(buffer.topic))),
      by === '' ? '' : h('p', { class: 'hint' }, by),
    );
    const field = byId('topic-text');
    field.value = buffer.topic;
    field.maxLength = Number(state.support.TOPICLEN) || 390;
    byId('topic-dialog').showModal();
    field.focus();
  }

  #find() {
    const { state } = this.#chat;
    const query = byId('switcher-query').value.trim();
    const wanted = fold(query);
    const open = conversationOrder(state).map((key) => ({
      key,
      name: key === '*' ? 'Server' : state.buffers.get(key).name,
      unread: state.buffers.get(key).unread,
    }));
    const people = [...(state.buffers.get(state.active)?.members.values() ?? [])]
      .filter(({ nick }) => nick !== state.nick && !state.buffers.has(fold(nick)))
      .map(({ nick }) => ({ nick, name: nick, note: 'direct message' }));
    const found = [...open, ...people]
      .map((choice) => ({ ...choice, at: fold(choice.name).indexOf(wanted) }))
      .filter((choice) => choice.at >= 0 && (wanted !== '' || choice.key))
      .sort((a, b) => (wanted === '' ? (b.unread > 0) - (a.unread > 0) : rank(a) - rank(b)));
    if (isChannel(query, state.support) && !state.buffers.has(wanted))
      found.push({ channel: query, name: query, note: 'join this channel' });
    this.#choices = found.slice(0, MAX_OPTIONS);
    this.#at = 0;
    this.#drawChoices();
  }

  #drawChoices() {
    const options = this.#choices.map((choice, index) =>
      h(
        'li',
        {
          id: `option-${index}`,
          role: 'option',
          class: 'option',
          'aria-selected': String(index === this.#at),
          onclick: () => this.#choose(choice),
        },
        h('span', { class: 'option-name' }, choice.name),
        choice.unread > 0 ? h('span', { class: 'badge' }, String(choice.unread)) : null,
        choice.note ? h('span', { class: 'option-note' }, choice.note) : null,
      ),
    );
    const list = byId('switcher-options');
    list.replaceChildren(
      ...(options.length > 0
        ? options
        : [h('li', { class: 'hint' }, 'Nothing by that name. Begin with # to join a channel.')]),
    );
    const query = byId('switcher-query');
    if (options.length > 0) query.setAttribute('aria-activedescendant', `option-${this.#at}`);
    else query.removeAttribute('aria-activedescendant');
    list.children[this.#at]?.scrollIntoView({ block: 'nearest' });
  }

  #pressed(event) {
    const step = { ArrowDown: 1, ArrowUp: -1 }[event.key];
    if (step && this.#choices.length > 0) {
      event.preventDefault();
      this.#at = (this.#at + step + this.#choices.length) % this.#choices.length;
      this.#drawChoices();
    } else if (event.key === 'Enter') {
      event.preventDefault();
      if (this.#choices[this.#at]) this.#choose(this.#choices[this.#at]);
    }
  }

  #choose(choice) {
    byId('switcher').close();
    if (choice.key) this.#chat.select(choice.key);
    else if (choice.channel) this.#chat.join([choice.channel]);
    else this.#chat.openDirect(choice.nick);
    byId('say').focus();
  }

  #join(name) {
    if (name === '') return;
    const { support } = this.#chat.state;
    byId('browse').close();
    this.#chat.join(
      name
        .split(/[\s,]+/)
        .filter(Boolean)
        .map((each) => (isChannel(each, support) ? each : `#${each}`)),
    );
    byId('say').focus();
  }

  #drawList() {
    const { list, buffers } = this.#chat.state;
    this.#list = list;
    const wanted = fold(byId('browse-query').value.trim().replace(/^#/, ''));
    const found = list.channels
      .filter(({ name, topic }) => fold(name).includes(wanted) || fold(topic).includes(wanted))
      .sort((a, b) => b.people - a.people || (a.name < b.name ? -1 : 1));
    setText(byId('browse-note'), listNote(list, found.length, wanted));
    byId('browse-list').replaceChildren(
      ...found
        .slice(0, MAX_BROWSED)
        .map(({ name, people, topic }) =>
          h(
            'li',
            {},
            h(
              'button',
              { type: 'button', class: 'option channel-option', onclick: () => this.#join(name) },
              h('span', { class: 'option-name' }, name),
              h(
                'span',
                { class: 'option-note' },
                buffers.get(fold(name))?.joined ? 'joined' : `${people} ${people === 1 ? 'person' : 'people'}`,
              ),
              topic === '' ? null : h('span', { class: 'option-topic', dir: 'auto' }, topic),
            ),
          ),
        ),
    );
  }
}

function listNote(list, count, wanted) {
  if (list.loading) return 'Asking the server for its channels…';
  if (list.channels.length === 0) return 'There are no public channels yet. Name one to open it.';
  if (count === 0) return `No public channel matches. Join opens #${wanted}.`;
  return count > MAX_BROWSED
    ? `${count} channels; the largest ${MAX_BROWSED} are shown.`
    : `${count} ${count === 1 ? 'channel' : 'channels'}`;
}

/** Names that begin with the query come first, conversations before people. */
function rank(choice) {
  const begins = choice.at === 0 || (choice.at === 1 && choice.name.startsWith('#'));
  return (begins ? 0 : 2) + (choice.key ? 0 : 1);
}

function byId(id) {
  return document.getElementById(id);
}
