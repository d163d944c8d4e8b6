// The node ends and comes back while two people write: every message is there once, in one order.

import assert from 'node:assert/strict';

import { until } from '../wait.mjs';

const CHANNEL = '#restart';
/** Each person writes so many lines; the node ends after the first few are stored. */
const LINES = 12;
const STORED_FIRST = 3;

/** Ends on request: clients are told, the state is saved. */
export const stopped = {
  name: 'restart-sigterm',
  title: 'SIGTERM and restart while sending: all messages once and in the same order',
  play: (world) => restart(world, 'SIGTERM', { code: 0, signal: null }),
};

/** Ends without a warning. */
export const killed = {
  name: 'restart-sigkill',
  title: 'SIGKILL and restart while sending: all messages once and in the same order',
  play: (world) => restart(world, 'SIGKILL', { code: null, signal: 'SIGKILL' }),
};

async function restart(world, signal, end) {
  const people = [await world.joined('anna', CHANNEL), await world.joined('bert', CHANNEL, { dark: true })];
  const [anna, bert] = people;
  await anna.hasPeople(2);
  const write = async (person, from, to) => {
    for (let n = from; n <= to; n += 1) await person.say(`${person.nick} ${n}`);
  };
  const writing = Promise.all(people.map((person) => write(person, 1, LINES)));
  const stored = async () => (await anna.messages()).filter(({ state }) => state === 'acknowledged').length;
  await Promise.race([until('the first messages are stored', async () => (await stored()) >= STORED_FIRST), writing]);
  const ended = await world.outage(signal);
  assert.deepEqual(ended, end, `how the node ended after ${signal}`);
  await writing;
  for (const person of people) {
    await person.offline();
    await person.say(`${person.nick} offline`);
    await person.message(`${person.nick} offline`, 'pending', 'Sending');
  }
  for (const { page, nick } of people) {
    await page.until(
      `${nick}’s page says what is going on`,
      () =>
        !document.getElementById('banner').hidden &&
        /connection is lost|Connecting/.test(document.getElementById('banner-text').textContent),
    );
  }
  await world.pictureAll('outage');

  await world.node.start();
  for (const person of people) await person.online();
  const written = people.flatMap(({ nick }) => [
    ...Array.from({ length: LINES }, (_, n) => `${nick} ${n + 1}`),
    `${nick} offline`,
  ]);
  for (const person of people) {
    for (const text of written) await person.sees(text);
    await person.allAcknowledged();
  }
  const order = await anna.texts();
  assert.deepEqual([...order].sort(), [...written].sort(), 'every message once');
  for (const { nick } of people) {
    const own = (texts) => texts.filter((text) => text.startsWith(`${nick} `));
    assert.deepEqual(own(order), own(written), `in the order in which ${nick} wrote them`);
  }
  await bert.shows(order, 'after the restart, in the order of the other page');
  await world.pictureAll('resumed');

  // What the node kept, as against what the pages remember.
  await anna.page.reload();
  await anna.online();
  await anna.shows(order, 'after a reload');
  const dora = await world.joined('dora', CHANNEL);
  await dora.shows(order, 'coming later');
  await anna.hasPeople(3);
  for (const person of people) {
    await person.shows(order, 'at the end');
    assert.doesNotMatch(await person.everything(), /missing|(anna|bert) left/, 'no gap, and nobody was gone');
  }
}
