// Puts the page together: the client, the views, the keyboard, the door. The only module with side effects on load.

import { Chat } from './chat.js';
import { Composer } from './composer.js';
import { Dialogs } from './dialogs.js';
import { icon } from './dom.js';
import { isChannel, defaultSupport } from './irc.js';
import { Keyboard } from './keyboard.js';
import { Drawers } from './drawers.js';
import { LogView } from './log-view.js';
import { Memory } from './memory.js';
import { View } from './view.js';
import { claimTab } from './tabs.js';

const FIRST_CHANNEL = '#lobby';
const SAVE_EVERY_MS = 1_000;
const WITHOUT_FRAMES_MS = 150;
const PREFERENCES = 'chatroom.preferences';

const byId = (id) => document.getElementById(id);

/** A Storage of this browser, or null where it is refused. */
function storageOf(name) {
  try {
    return window[name];
  } catch {
    return null;
  }
}

function openSocket(subProtocol) {
  const address = new URL('irc', document.baseURI);
  address.protocol = address.protocol.replace('http', 'ws');
  address.hash = '';
  return new WebSocket(address, [subProtocol]);
}

const memory = new Memory(storageOf('sessionStorage'));
let drawing = false;
const chat = new Chat(
  {
    open: openSocket,
    now: () => Date.now(),
    random: Math.random,
    setTimeout: (act, delay) => setTimeout(act, delay),
    clearTimeout: (timer) => clearTimeout(timer),
    changed: draw,
    door: showDoor,
    browse: () => dialogs.browse(),
  },
  memory,
);

const drawers = new Drawers();
const dialogs = new Dialogs(chat);
const composer = new Composer(chat);
const acts = {
  select: (key) => go(() => chat.select(key)),
  close: (key) => go(() => chat.close(key)),
  openDirect: (nick) => go(() => chat.openDirect(nick)),
  sendAgain: (id) => chat.sendAgain(id),
  discard: (id) => chat.discard(id),
  fillGap: (gap) => chat.fillGap(chat.state.active, gap),
  join: (channel) => go(() => chat.join([channel])),
};
const view = new View(chat, acts);
const log = new LogView(chat, acts);

function go(act) {
  drawers.close();
  act();
  if (!drawers.narrow) composer.focus();
}

/** Draws once per frame, however much came; by a timer where no frames come, as in a hidden or covered page. */
function draw() {
  if (drawing) return;
  drawing = true;
  const now = () => {
    if (!drawing) return;
    clearTimeout(timer);
    drawing = false;
    if (byId('room').hidden && !mayEnter(chat.state.status)) return;
    const { state } = chat;
    view.render(state);
    log.render(state);
    composer.render(state);
    dialogs.render(state);
  };
  const timer = setTimeout(now, WITHOUT_FRAMES_MS);
  requestAnimationFrame(now);
}

/** Opens the room as soon as the server let the person in; until then the door says how it goes. */
function mayEnter({ phase, reason }) {
  if (phase === 'online') {
    showRoom();
    return true;
  }
  if (phase === 'waiting') {
    byId('door-error').hidden = false;
    byId('door-error').textContent =
      `The server cannot be reached${reason ? ` (${reason})` : ''}. Trying again by itself…`;
    byId('enter-button').disabled = false;
    byId('enter-button').textContent = 'Try now';
  }
  return false;
}

function showRoom() {
  byId('door').hidden = true;
  byId('room').hidden = false;
  byId('enter-button').disabled = false;
  drawers.layOut();
  if (!drawers.narrow) composer.focus();
}

/** The form, with what the server had against it, if anything. */
function showDoor({ field, text }) {
  drawers.close();
  dialogs.closeAll();
  if (chat.state.nick === '') {
    log.clear();
    composer.clear();
  }
  byId('room').hidden = true;
  byId('door').hidden = false;
  byId('enter-button').disabled = false;
  byId('enter-button').textContent = 'Join';
  byId('door-error').hidden = text === '';
  byId('door-error').textContent = text;
  document.title = 'Chat';
  const known = preferences();
  if (byId('nick').value === '') byId('nick').value = memory.record.nick || known.nick;
  if (byId('channels').value === '')
    byId('channels').value = channelsOfAddress().join(', ') || known.channels || FIRST_CHANNEL;
  if (field === 'password') byId('more').open = true;
  for (const id of ['nick', 'password']) byId(id).toggleAttribute('aria-invalid', id === field);
  byId(field === '' ? 'nick' : field).focus();
}

function preferences() {
  const empty = { nick: '', channels: '' };
  try {
    return { ...empty, ...JSON.parse(storageOf('localStorage')?.getItem(PREFERENCES) ?? '{}') };
  } catch {
    return empty;
  }
}

function readChannels(text) {
  return text
    .split(/[\s,]+/)
    .filter(Boolean)
    .map((name) => (isChannel(name, defaultSupport()) ? name : `#${name}`));
}

/** `…/#rust,#go` names the channels to join. */
function channelsOfAddress() {
  try {
    return readChannels(decodeURIComponent(location.hash));
  } catch {
    return [];
  }
}

byId('enter').addEventListener('submit', (event) => {
  event.preventDefault();
  const nick = byId('nick').value.trim();
  const channels = readChannels(byId('channels').value);
  if (nick === '' || /\s/.test(nick)) {
    showDoor({ field: 'nick', text: nick === '' ? 'Choose a nick first.' : 'A nick cannot hold spaces.' });
    return;
  }
  try {
    storageOf('localStorage')?.setItem(PREFERENCES, JSON.stringify({ nick, channels: channels.join(', ') }));
  } catch {
    // Only a convenience for the next visit.
  }
  byId('door-error').hidden = true;
  byId('enter-button').disabled = true;
  byId('enter-button').textContent = 'Joining…';
  chat.enter({ nick, channels, password: byId('password').value });
});

byId('leave').addEventListener('click', () => {
  chat.leave();
  showDoor({ field: '', text: '' });
});
byId('open-switcher').addEventListener('click', () => dialogs.switcher());
byId('open-browse').addEventListener('click', () => dialogs.browse());
byId('topic').addEventListener('click', () => dialogs.topic());
byId('skip').addEventListener('click', (event) => {
  event.preventDefault();
  composer.focus();
});
for (const element of document.querySelectorAll('[data-icon]')) element.prepend(icon(element.dataset.icon));
new Keyboard({ chat, dialogs, composer, drawers, log });

document.addEventListener('visibilitychange', () => {
  chat.setVisible(!document.hidden);
  if (document.hidden) memory.saveIfChanged();
  else chat.wake();
});
window.addEventListener('online', () => chat.wake());
window.addEventListener('pagehide', () => memory.saveIfChanged());
window.addEventListener('hashchange', () => {
  const channels = channelsOfAddress();
  if (channels.length > 0 && !byId('room').hidden) chat.join(channels);
});
chat.setVisible(!document.hidden);
setInterval(() => memory.saveIfChanged(), SAVE_EVERY_MS);

if ((await claimTab(memory)) && memory.resumable) {
  showRoom();
  chat.comeBack();
} else {
  showDoor({ field: '', text: '' });
}
