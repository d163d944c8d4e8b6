// The room stores a message, and the page never hears of it: what it sends again must not appear twice.

import assert from 'node:assert/strict';

export const name = 'lost-echo';
export const title = 'a message whose acknowledgement is lost appears once, also after SIGKILL';

const CHANNEL = '#lost-echo';

export async function play(world) {
  const relay = await world.relay();
  const anna = await world.person('anna');
  await anna.join(relay.address, CHANNEL);
  const bert = await world.joined('bert', CHANNEL);
  await anna.hasPeople(2);
  const said = [];
  const sayUnheard = async (text) => {
    said.push(text);
    relay.swallowAnswers();
    await anna.say(text);
    await bert.sees(text);
    await anna.message(text, 'pending', 'Sending');
  };
  const isWhole = async () => {
    await anna.online();
    await bert.online();
    for (const text of said) await anna.message(text, 'acknowledged', 'Sent: the room has stored it');
    // What is said after it has come to bert after whatever was sent again.
    said.push(`after ${said.at(-1)}`);
    await anna.say(said.at(-1));
    await bert.sees(said.at(-1));
    await anna.message(said.at(-1), 'acknowledged', 'Sent: the room has stored it');
    for (const person of [anna, bert]) await person.shows(said, said.at(-1));
    assert.doesNotMatch(await bert.everything(), /anna left/, 'anna’s session went on');
  };

  await sayUnheard('cut off');
  await world.picture(anna, 'unheard');
  anna.page.tolerateOutages();
  relay.cut();
  await isWhole();

  await sayUnheard('killed');
  await world.outage('SIGKILL');
  relay.cut();
  await anna.offline();
  await world.node.start();
  await isWhole();
  await world.picture(anna, 'whole');
}
