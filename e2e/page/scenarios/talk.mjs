// Two people at pages and one with an IRC client meet in a channel.

import assert from 'node:assert/strict';

export const name = 'talk';
export const title = 'two pages and an IRC client join a channel and talk';

const CHANNEL = '#talk';
const MARKUP = 'from tcp <img src=x onerror="throw 1"> <b>not bold</b>';

export async function play(world) {
  const anna = await world.joined('anna', CHANNEL);
  const bert = await world.joined('bert', CHANNEL, { dark: true });
  const carl = await world.guest('carl', CHANNEL);
  for (const person of [anna, bert]) await person.hasPeople(3);
  assert.deepEqual(await bert.people(), ['@anna', 'bert', 'carl'], 'who is here, with the operator’s sign');

  await anna.say('hello from a page');
  await bert.sees('hello from a page');
  await carl.hears(/^:anna!\S+ PRIVMSG #talk :hello from a page$/);
  await bert.say('hello, anna ✓ žluťoučký 日本');
  await anna.sees('hello, anna ✓ žluťoučký 日本');
  await carl.hears(/^:bert!\S+ PRIVMSG #talk :hello, anna ✓ žluťoučký 日本$/);
  carl.send(`PRIVMSG ${CHANNEL} :${MARKUP}`);
  for (const person of [anna, bert]) {
    await person.sees(MARKUP);
    assert.equal(
      await person.page.ask(() => document.querySelectorAll('.text img, .text b').length),
      0,
      'text is text',
    );
  }

  await anna.say('/topic What we talk about');
  await bert.page.until(
    'the topic is shown',
    () => document.getElementById('topic').textContent === 'What we talk about',
  );
  await carl.hears(/TOPIC #talk :What we talk about$/);
  await anna.say('/me waves');
  await bert.sees('anna waves');

  await bert.say('/msg anna only for you');
  await anna.page.until(
    'the direct message is counted',
    () => document.querySelector('.tab.meant .badge')?.textContent === '1',
  );
  await world.pictureAll('unread');
  await anna.openConversation('bert');
  await anna.sees('only for you');
  await anna.openConversation(CHANNEL);
  assert.equal(carl.count(/only for you/), 0, 'nobody else sees a direct message');

  const said = ['hello from a page', 'hello, anna ✓ žluťoučký 日本', MARKUP, 'anna waves'];
  await bert.openConversation(CHANNEL);
  for (const person of [anna, bert]) await person.shows(said, 'at the end');
  await world.pictureAll('end');

  await bert.page.click('#leave');
  await carl.hears(/^:bert!\S+ QUIT\b/);
  await anna.hasPeople(2);
  await bert.page.until('the door is there again', () => !document.getElementById('door').hidden);
}
