// Every control of every view has a name, and the marks for assistive technology hold together.

import { inspect } from '../accessibility.mjs';
import { until } from '../wait.mjs';

export const name = 'accessibility';
export const title = 'every control has an accessible name';

const CHANNEL = '#names';
const PHONE = { width: 390, height: 780, phone: true };

export async function play(world) {
  await onDesk(world);
  await onPhone(world);
}

async function onDesk(world) {
  const anna = await world.person('anna');
  const { page } = anna;
  await anna.visit(world.node.address);
  await page.click('#more summary');
  await holds(page, 'the door', 'Nick', 'Channels', 'The room has a password', 'Password', 'Join');
  await anna.fillDoor(CHANNEL);
  await anna.online();
  await anna.isIn(CHANNEL);
  const bert = await world.guest('bert', CHANNEL);
  bert.send(`PRIVMSG ${CHANNEL} :look at https://example.org/`);
  await anna.sees('look at https://example.org/');
  await anna.say('an own message');
  await anna.allAcknowledged();
  await anna.say('/msg nobody hello?');
  await anna.message('hello?', 'failed', 'Not sent');
  await holds(page, 'a message that failed', 'Send again', 'Discard', 'Not sent', 'Close the talk with nobody');
  await anna.openConversation(CHANNEL);
  await holds(
    page,
    'the room',
    'Leave the chat',
    'Join a channel',
    'Go to a conversation',
    `Leave ${CHANNEL}`,
    'Set a topic',
    'People, 2 here',
    `Messages in ${CHANNEL}`,
    `Message ${CHANNEL}`,
    'Send',
    'https://example.org/',
    'Sent: the room has stored it',
  );

  await page.click('#open-browse');
  await page.until('the channels are listed', () => document.querySelector('#browse-list button'));
  await holds(page, 'the list of channels', 'Join a channel', 'Channel', 'Close', 'Join');
  await closed(page, 'browse');
  await page.press('k');
  await page.until('the switcher has choices', () => document.querySelector('#switcher-options [role=option]'));
  await holds(page, 'the switcher', 'Go to a conversation', 'Conversation', 'Conversations');
  await closed(page, 'switcher');
  await page.click('#topic');
  await holds(page, 'the topic', `Topic of ${CHANNEL}`, 'New topic', 'Set the topic', 'Close');
  await closed(page, 'topic-dialog');
}

async function onPhone(world) {
  const { page } = await world.joined('cora', CHANNEL, PHONE);
  await page.click('#open-sidebar');
  await holds(page, 'the drawer of conversations', 'Leave the chat', `Leave ${CHANNEL}`);
  await page.click('.tab.current .tab-name');
  await page.click('#open-people');
  await holds(page, 'the drawer of people', 'Close the list of people', 'anna');
}

/** Waits until all controls that are shown have names, `expected` are among them, and nothing else is wrong. */
async function holds(page, what, ...expected) {
  let faults = [];
  const look = async () => {
    const found = await inspect(page);
    const missing = expected.filter((name) => !found.names.includes(name));
    faults = [...found.faults, ...missing.map((name) => `no control “${name}” among: ${found.names.join(', ')}`)];
    return faults.length === 0;
  };
  await until(`${what} is accessible`, look, { scene: async () => faults.join('\n') });
}

async function closed(page, id) {
  await page.press('Escape');
  await page.until(`${id} is closed`, (which) => !document.getElementById(which).open, id);
}
