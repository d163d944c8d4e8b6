// What the server refuses is told in words, where it happened, with what to do.

import assert from 'node:assert/strict';

export const name = 'refusals';
export const title = 'errors are told in words, where they belong';

const CHANNEL = '#refusals';

export async function play(world) {
  const anna = await world.joined('anna', CHANNEL);

  const bert = await world.person('anna');
  await bert.visit(world.node.address);
  await bert.fillDoor(CHANNEL);
  await doorSays(bert, 'The nick anna is taken. Choose another.');
  await world.picture(bert, 'nick-taken');
  bert.nick = '9lives';
  await bert.fillDoor(CHANNEL);
  await doorSays(bert, 'cannot be a nick. Use letters, digits');
  bert.nick = 'bert';
  await bert.fillDoor(CHANNEL);
  await bert.online();
  await bert.isIn(CHANNEL);

  await bert.say('/kick anna');
  await bert.isTold(`Only operators of ${CHANNEL} may do that.`);
  await bert.enter('/nosuchcommand');
  await bert.isTold('There is no command /nosuchcommand. /help lists them');

  await anna.say('/mode +m');
  await bert.isTold('moderated');
  await bert.say('may I?');
  await bert.message('may I?', 'failed', 'Not sent');
  await trouble(bert, `You may not talk in ${CHANNEL}.`);
  await world.picture(bert, 'refused');
  await anna.say('/mode -m');
  await bert.isTold('no longer moderated');
  await bert.page.click('.trouble button');
  await bert.message('may I?', 'acknowledged', 'Sent: the room has stored it');
  await anna.sees('may I?');
  await bert.shows(['may I?'], 'after sending it again');

  await bert.say('/msg nobody hello?');
  await bert.message('hello?', 'failed', 'Not sent');
  await trouble(bert, 'nobody is not here.');
  await world.picture(bert, 'nobody');
  for (const person of [anna, bert]) {
    assert.doesNotMatch(await person.everything(), /\b(404|401|482|421)\b/, 'no bare numerics');
  }
}

function doorSays(person, text) {
  return person.page.until(
    `the door says “${text}”`,
    (wanted) => {
      const error = document.getElementById('door-error');
      return (
        !error.hidden &&
        error.textContent.includes(wanted) &&
        document.getElementById('nick').hasAttribute('aria-invalid')
      );
    },
    text,
  );
}

function trouble(person, text) {
  return person.page.until(
    `the message says “${text}”`,
    (wanted) => [...document.querySelectorAll('.trouble')].some((each) => each.textContent.includes(wanted)),
    text,
  );
}
