// Scrolling back through more than fits one answer of the server.

import assert from 'node:assert/strict';

import { until } from '../wait.mjs';

export const name = 'history';
export const title = 'scrolling back loads all of the history and keeps the reader’s place';

const CHANNEL = '#history';
/** Few enough lines each that no speaker meets the server's limit of commands. */
const SPEAKERS = 9;
const LINES_EACH = 15;
/** More than there is to scroll. */
const UP = -5_000;

export async function play(world) {
  const witness = await world.guest('witness', CHANNEL);
  const said = [];
  for (let s = 1; s <= SPEAKERS; s += 1) {
    const speaker = await world.guest(`speaker${s}`, CHANNEL);
    for (let n = 0; n < LINES_EACH; n += 1) {
      said.push(`message ${said.length + 1}`);
      speaker.send(`PRIVMSG ${CHANNEL} :${said.at(-1)}`);
    }
    await witness.hears(new RegExp(`:${said.at(-1)}$`));
  }
  const anna = await world.joined('anna', CHANNEL);
  await anna.sees(said.at(-1));
  const first = await anna.texts();
  assert.deepEqual(first, said.slice(-first.length), 'the latest come first');
  assert.ok(first.length < said.length, 'not everything comes at once');

  // While the node is halted nothing can be loaded, so the place is known exactly.
  await world.node.halt();
  await anna.page.wheel('#log', UP);
  await anna.page.until('it says that it loads', () =>
    document.getElementById('older').textContent.includes('Loading'),
  );
  await until('the log is at its very top', async () => {
    await anna.page.wheel('#log', UP);
    return anna.page.ask(() => document.getElementById('log').scrollTop === 0);
  });
  const before = await anna.page.ask(topMessage);
  world.node.go();
  await until('older messages are there', async () => (await anna.texts()).length > first.length);
  const after = await anna.page.ask(offsetOf, before.text);
  assert.ok(
    Math.abs(after - before.offset) <= 2,
    `“${before.text}” stays in place: ${before.offset} px, then ${after} px`,
  );
  await world.picture(anna, 'scrolled');

  await until('the beginning is reached', async () => {
    await anna.page.wheel('#log', UP);
    return anna.page.ask(() => document.getElementById('older').textContent.includes('beginning'));
  });
  assert.deepEqual(await anna.texts(), said, 'all of it, once, in order');
  await world.picture(anna, 'beginning');

  witness.send(`PRIVMSG ${CHANNEL} :and one more`);
  await anna.sees('and one more');
  await anna.page.until(
    'the new message is announced',
    () => document.getElementById('to-bottom-text').textContent === '1 new message',
  );
  await anna.page.click('#to-bottom');
  await anna.page.until('the end is shown', () => {
    const log = document.getElementById('log');
    return log.scrollHeight - log.scrollTop - log.clientHeight < 2 && document.getElementById('to-bottom').hidden;
  });
}

/** Runs in the page: the first message that is wholly in sight. */
function topMessage() {
  const top = document.getElementById('log').getBoundingClientRect().top;
  const row = [...document.querySelectorAll('.row.message')].find((each) => each.getBoundingClientRect().top >= top);
  return { text: row.querySelector('.text').textContent, offset: row.getBoundingClientRect().top };
}

/** Runs in the page. */
function offsetOf(text) {
  const row = [...document.querySelectorAll('.row.message')].find(
    (each) => each.querySelector('.text').textContent === text,
  );
  return row.getBoundingClientRect().top;
}
