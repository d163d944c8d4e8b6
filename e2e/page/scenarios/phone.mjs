// The page on phones: everything fits the width, and everything can be reached.

import assert from 'node:assert/strict';

import { overflow } from '../layout.mjs';

export const name = 'phone';
export const title = 'on phones everything fits the width and can be reached';

const CHANNEL = '#a-channel-with-quite-a-long-name-for-a-phone';
const LONG = `one word: ${'Donaudampfschiff'.repeat(10)} and https://example.org/${'path/'.repeat(20)}`;
const SCREENS = [
  { nick: 'narrow', width: 320, height: 568 },
  { nick: 'common', width: 390, height: 780 },
];

export async function play(world) {
  for (const { nick, width, height } of SCREENS) {
    const person = await world.person(nick, { width, height, phone: true });
    const fits = async (what) => {
      assert.deepEqual(await overflow(person.page, width), [], `${what} on a screen of ${width} px`);
      await world.picture(person, `${width}-${what}`);
    };
    await person.visit(world.node.address);
    await fits('door');
    await person.fillDoor(CHANNEL);
    await person.online();
    await person.page.until(
      'the channel is open',
      (name) => document.getElementById('talk-name').textContent === name,
      CHANNEL,
    );
    await person.say(LONG);
    await person.sees(LONG);
    await person.allAcknowledged();
    await person.say(`/topic ${'A long topic that has to be cut somewhere. '.repeat(4)}`);
    await person.page.until('the topic is shown', () =>
      document.getElementById('topic').textContent.startsWith('A long topic'),
    );
    await fits('talk');

    await person.page.click('#open-sidebar');
    await person.page.until('the conversations have the focus', () =>
      document.getElementById('sidebar').contains(document.activeElement),
    );
    await fits('conversations');
    await person.openConversation('*');
    await fits('server');
    await person.page.click('#open-sidebar');
    await person.openConversation(CHANNEL);
    await person.page.click('#open-people');
    await person.page.until('the people have the focus', () =>
      document.getElementById('people').contains(document.activeElement),
    );
    await fits('people');
    await person.page.click('#close-people');
    await person.page.click('#topic');
    await person.page.until('the topic is open', () => document.getElementById('topic-dialog').open);
    await fits('topic');
    await person.page.press('Escape');
    await person.page.until('the topic is closed', () => !document.getElementById('topic-dialog').open);
    await person.say('still here');
    await person.message('still here', 'acknowledged', 'Sent: the room has stored it');
  }
}
