// What the sign beside an own message says, while the server is busy and after.

import assert from 'node:assert/strict';

export const name = 'receipts';
export const title = 'a message is “Sending” until the room has stored it';

const CHANNEL = '#receipts';

export async function play(world) {
  const anna = await world.joined('anna', CHANNEL);
  const bert = await world.joined('bert', CHANNEL);
  await anna.hasPeople(2);
  await world.node.halt();
  await anna.say('stored or not?');
  await anna.message('stored or not?', 'pending', 'Sending');
  await world.picture(anna, 'sending');
  assert.deepEqual(await bert.texts(), [], 'nobody sees what the room has not stored');
  world.node.go();
  await anna.message('stored or not?', 'acknowledged', 'Sent: the room has stored it');
  await bert.sees('stored or not?');
  assert.deepEqual(
    await anna.messages(),
    [{ text: 'stored or not?', state: 'acknowledged' }],
    'the echo is not a second message',
  );
  assert.equal((await bert.messages()).length, 1);
  await world.picture(anna, 'stored');
}
