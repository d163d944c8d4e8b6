// A page that is reloaded, or left and come back to, goes on with its session; others notice nothing.

import assert from 'node:assert/strict';

export const name = 'reload';
export const title = 'a reload resumes the session and shows the history';

const CHANNEL = '#reload';

export async function play(world) {
  const anna = await world.joined('anna', CHANNEL);
  const bert = await world.joined('bert', CHANNEL);
  const carl = await world.guest('carl', CHANNEL);
  await anna.hasPeople(3);
  const said = [];
  const speak = async (who, text) => {
    said.push(text);
    await who.say(text);
    await bert.sees(text);
  };
  for (let n = 1; n <= 3; n += 1) {
    await speak(anna, `anna ${n}`);
    await speak(bert, `bert ${n}`);
  }
  await anna.say('/topic Still the same');
  await carl.hears(/TOPIC #reload :Still the same/);
  await anna.sees('bert 3');

  await anna.page.reload();
  await anna.online();
  await anna.isIn(CHANNEL);
  await anna.sees('bert 3');
  await anna.hasPeople(3);
  await anna.page.until(
    'the topic is shown again',
    () => document.getElementById('topic').textContent === 'Still the same',
  );
  await anna.shows(said, 'after a reload');
  assert.deepEqual(await anna.people(), ['@anna', 'bert', 'carl'], 'the same nick, still operator');
  await world.picture(anna, 'reloaded');

  await anna.page.go('about:blank');
  for (let n = 1; n <= 5; n += 1) await speak(bert, `while anna is away ${n}`);
  await anna.page.go(world.node.address);
  await anna.online();
  await anna.isIn(CHANNEL);
  await anna.sees('while anna is away 5');
  await anna.shows(said, 'after being away');
  await speak(anna, 'back again');
  await carl.hears(/^:anna!\S+ PRIVMSG #reload :back again$/);
  await anna.shows(said, 'at the end');
  await world.picture(anna, 'back');
  assert.equal(carl.count(/^:anna!\S+ (QUIT|PART|JOIN)\b/), 0, 'others did not notice');
  assert.doesNotMatch(await bert.everything(), /anna (left|joined)/, 'nor on a page');
}
