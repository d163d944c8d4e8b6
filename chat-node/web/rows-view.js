// One row of the message log as elements: messages, events, days, marks.

import { h, hidden, icon, tint } from './dom.js';
import { readFormatting } from './formatting.js';

const clock = new Intl.DateTimeFormat(undefined, { hour: '2-digit', minute: '2-digit', hourCycle: 'h23' });
const clockExact = new Intl.DateTimeFormat(undefined, { dateStyle: 'full', timeStyle: 'medium' });
const dayName = new Intl.DateTimeFormat(undefined, { weekday: 'long', day: 'numeric', month: 'long' });
const dayNameWithYear = new Intl.DateTimeFormat(undefined, { dateStyle: 'full' });
const STYLE_ELEMENTS = { bold: 'strong', italic: 'em', underline: 'u', strike: 's', mono: 'code' };
const RECEIPTS = {
  pending: ['clock', 'Sending'],
  waiting: ['clock', 'Waiting to be sent again'],
  acknowledged: ['check', 'Sent: the room has stored it'],
  failed: ['alert', 'Not sent'],
  unsure: ['alert', 'Perhaps not sent'],
};

/** A person's text as nodes: styles as elements, web addresses as links, everything else as text. */
export function textNodes(text) {
  return readFormatting(text).map(({ text: shown, styles, href }) => {
    const inner = href
      ? h('a', { href, target: '_blank', rel: 'noopener noreferrer nofollow' }, shown)
      : document.createTextNode(shown);
    return styles.reduce((node, style) => h(STYLE_ELEMENTS[style], {}, node), inner);
  });
}

/** The element of a row. `acts`: `{ openDirect(nick), sendAgain(id), discard(id), join(channel), fillGap(key) }`. */
export function buildRow(row, acts) {
  const element = (BUILDERS[row.kind] ?? buildEvent)(row, acts);
  element.dataset.kind = row.kind;
  if (row.item?.msgid) element.dataset.msgid = row.item.msgid;
  return element;
}

const BUILDERS = {
  day: ({ time }) => h('div', { class: 'row divider', role: 'separator' }, h('span', {}, dayText(time))),
  marker: () => h('div', { class: 'row divider marker', role: 'separator' }, h('span', {}, 'New')),
  gap: ({ item }, acts) =>
    h(
      'div',
      { class: 'row gap', role: 'note' },
      icon('alert'),
      h(
        'span',
        {},
        item.final
          ? 'Some messages are missing here. They were said while you were away and are no longer kept.'
          : 'Some messages may be missing here, from while you were away.',
      ),
      item.final
        ? null
        : h('button', { type: 'button', class: 'small', onclick: () => acts.fillGap(item.key) }, 'Look for them'),
    ),
  presence: ({ text, full, time }) =>
    h('div', { class: 'row event presence', title: full }, timeOf(time), h('p', {}, text)),
  message: buildMessage,
  notice: buildMessage,
  action: buildAction,
  info: buildInfo,
  error: ({ item, time }) => h('div', { class: 'row event error' }, timeOf(time), icon('alert'), h('p', {}, item.text)),
  invite: ({ item, time }, acts) =>
    h(
      'div',
      { class: 'row event invite' },
      timeOf(time),
      h('p', {}, item.text),
      item.channel
        ? h(
            'button',
            { type: 'button', class: 'small', onclick: () => acts.join(item.channel) },
            `Join ${item.channel}`,
          )
        : null,
    ),
};

function buildMessage({ item, head }, acts) {
  const classes = [
    'row',
    'message',
    head && 'head',
    item.self && 'self',
    item.mention && 'mention',
    item.kind === 'notice' && 'notice',
  ];
  return h(
    'article',
    { class: classes.filter(Boolean).join(' '), 'data-state': item.state },
    head
      ? h('span', { class: `avatar ${tint(item.from)}`, 'aria-hidden': 'true' }, initial(item.from))
      : timeOf(item.time),
    h(
      'div',
      { class: 'said' },
      head
        ? h('header', { class: 'byline' }, nickButton(item, acts), audience(item), timeOf(item.time))
        : hidden(`${item.from}: `),
      h('p', { class: 'text', dir: 'auto' }, ...textNodes(item.text)),
      trouble(item, acts),
    ),
    receipt(item),
  );
}

function buildAction({ item }, acts) {
  return h(
    'article',
    {
      class: `row message action${item.self ? ' self' : ''}${item.mention ? ' mention' : ''}`,
      'data-state': item.state,
    },
    timeOf(item.time),
    h(
      'div',
      { class: 'said' },
      h('p', { class: 'text', dir: 'auto' }, nickButton(item, acts), ' ', ...textNodes(item.text)),
      trouble(item, acts),
    ),
    receipt(item),
  );
}

function buildInfo({ item, time }) {
  const lines = item.lines?.length > 0 ? h('ul', {}, ...item.lines.map((line) => h('li', {}, line))) : null;
  return h(
    'div',
    { class: 'row event info' },
    timeOf(time),
    h('div', { class: 'info-text' }, h('p', {}, ...textNodes(item.text)), lines),
  );
}

function buildEvent({ item, time }) {
  return h('div', { class: 'row event' }, timeOf(time), h('p', {}, ...textNodes(item.text ?? '')));
}

function nickButton(item, acts) {
  if (item.self) return h('span', { class: `nick ${tint(item.from)}` }, item.from);
  const title = `Talk with ${item.from}`;
  return h(
    'button',
    { type: 'button', class: `nick ${tint(item.from)}`, title, onclick: () => acts.openDirect(item.from) },
    item.from,
  );
}

function audience(item) {
  if (item.kind === 'notice') return h('span', { class: 'audience' }, 'notice');
  return item.to ? h('span', { class: 'audience' }, `only to ${item.to} and above`) : null;
}

function receipt(item) {
  if (!item.self || !RECEIPTS[item.state]) return null;
  const [name, label] = RECEIPTS[item.state];
  return h('span', { class: `receipt ${item.state}`, role: 'img', 'aria-label': label, title: label }, icon(name));
}

function trouble(item, acts) {
  if (!item.reason || item.state === 'acknowledged') return null;
  const canAct = item.state === 'failed' || item.state === 'unsure';
  return h(
    'div',
    { class: 'trouble' },
    h('span', {}, item.reason),
    canAct
      ? h('button', { type: 'button', class: 'small', onclick: () => acts.sendAgain(item.id) }, 'Send again')
      : null,
    canAct
      ? h('button', { type: 'button', class: 'small quiet', onclick: () => acts.discard(item.id) }, 'Discard')
      : null,
  );
}

function timeOf(time) {
  const date = new Date(time);
  return h('time', { datetime: date.toISOString(), title: clockExact.format(date) }, clock.format(date));
}

function initial(nick) {
  return ([...nick.replace(/^[^\p{L}\p{N}]+/u, '')][0] ?? [...nick][0] ?? '?').toUpperCase();
}

function dayText(time) {
  const date = new Date(time);
  const today = new Date();
  const days = Math.round((startOf(today) - startOf(date)) / 86_400_000);
  if (days === 0) return 'Today';
  if (days === 1) return 'Yesterday';
  return (date.getFullYear() === today.getFullYear() ? dayName : dayNameWithYear).format(date);
}

function startOf(date) {
  return new Date(date.getFullYear(), date.getMonth(), date.getDate()).getTime();
}
