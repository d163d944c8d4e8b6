import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Connection, backoffMs, closeAdvice } from '../connection.js';
import { Memory } from '../memory.js';
import { Peer, register, resume } from './peer.js';

function begin({ identity = { nick: 'ann', alternate: false } } = {}) {
  const peer = new Peer();
  const events = [];
  const memory = new Memory(null);
  const connection = new Connection(
    peer.outside((event) => events.push(event)),
    memory,
  );
  connection.start(identity);
  const phase = () => events.findLast((event) => event.type === 'status').phase;
  return { peer, events, memory, connection, phase, types: () => events.map((event) => event.type) };
}

test('a connection registers, keeps the token, and says when it is ready', () => {
  const { peer, memory, phase, connection } = begin();
  assert.equal(phase(), 'connecting');
  register(peer.socket, 'ann', 'T1');
  assert.equal(phase(), 'online');
  assert.equal(memory.record.token, 'T1');
  assert.equal(connection.caps.has('chatroom.dev/resume'), true);
});

test('a lost connection comes back by itself and resumes where each stream was', () => {
  const { peer, memory, phase, types } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.say(
    '@msgid=s1-4 :bob!b@h PRIVMSG #c :x',
    '@msgid=s2-9 :bob!b@h PRIVMSG #d :x',
    '@msgid=s1-5 :bob!b@h PRIVMSG #c :x',
  );
  peer.socket.drop();
  assert.equal(phase(), 'waiting');
  peer.pass(1_000);
  assert.equal(peer.sockets.length, 2);
  const written = resume(peer.socket, 'ann', 'T2', ['@msgid=s1-6 :bob!b@h PRIVMSG #c :missed']);
  assert.ok(written.includes('RESUME T1 s2-9,s1-5'));
  assert.ok(!written.some((line) => line.startsWith('NICK')));
  assert.deepEqual(memory.seen, ['s2-9', 's1-6']);
  assert.equal(memory.record.token, 'T2');
  assert.equal(phase(), 'online');
  assert.equal(types().filter((type) => type === 'replayed').length, 1);
});

test('the token before is kept until the server is known to have heard that the new one arrived', () => {
  const { peer, memory } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.drop();
  peer.pass(1_000);
  resume(peer.socket, 'ann', 'T2');
  assert.deepEqual([memory.record.token, memory.record.previousToken], ['T2', 'T1']);
  peer.socket.heard();
  peer.socket.say('PING :s');
  assert.deepEqual(peer.socket.heard(), ['PONG s', 'PING confirmed']);
  assert.equal(memory.record.previousToken, 'T1');
  peer.socket.say(':s PONG s :confirmed');
  assert.deepEqual([memory.record.token, memory.record.previousToken], ['T2', '']);
});

test('where an older attempt came in late and took the place of the new token, the one before it is shown', () => {
  const { peer, memory, phase, types } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.say('@msgid=s1-4 :b!b@h PRIVMSG #c :x');
  peer.socket.drop();
  peer.pass(1_000);
  resume(peer.socket, 'ann', 'T2');
  peer.socket.drop();
  peer.pass(2_000);
  peer.socket.accept();
  peer.socket.say(':s CAP * LS :batch chatroom.dev/resume', ':s CAP * ACK :batch chatroom.dev/resume');
  assert.ok(peer.socket.heard().includes('RESUME T2 s1-4'));
  peer.socket.say(':s FAIL RESUME INVALID_TOKEN :Gone');
  assert.deepEqual(peer.socket.heard(), ['CAP REQ chatroom.dev/resume', 'RESUME T1 s1-4', 'CAP END']);
  peer.socket.say(':s CAP * ACK :chatroom.dev/resume', ':s RESUME SUCCESS ann', ':s RESUME TOKEN T4');
  peer.socket.say(':s BATCH +r chatroom.dev/resume', ':s BATCH -r');
  assert.equal(phase(), 'online');
  assert.ok(!types().includes('tokenRefused'));
  assert.deepEqual([memory.record.token, memory.record.previousToken], ['T4', 'T1']);
});

test('a session that neither token opens is over, and so is one whose place is not understood', () => {
  for (const code of ['INVALID_TOKEN', 'INVALID_MSGID s1-4']) {
    const { peer, memory, types } = begin();
    register(peer.socket, 'ann', 'T1');
    peer.socket.drop();
    peer.pass(1_000);
    peer.socket.accept();
    peer.socket.say(':s CAP * LS :batch chatroom.dev/resume', ':s CAP * ACK :batch chatroom.dev/resume');
    peer.socket.heard();
    peer.socket.say(`:s FAIL RESUME ${code} :No`, ':s FAIL RESUME NEED_TOKEN :No');
    assert.deepEqual(peer.socket.heardCommands(), ['NICK', 'USER']);
    assert.deepEqual([memory.record.token, types().filter((type) => type === 'tokenRefused').length], ['', 1]);
  }
});

test('what was seen of a history that the server lost counts for nothing', () => {
  const { peer, memory } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.say('@msgid=s1-90 :b!b@h PRIVMSG #c :x', '@msgid=s2-5 :b!b@h PRIVMSG #d :x');
  peer.socket.say(':s RESUME GAP ann s1-41', ':s RESUME GAP #c s1-41', ':s RESUME GAP ann s2-8');
  assert.deepEqual(memory.seen.toSorted(), ['s1-40', 's2-5']);
});

test('positions come from live and replayed lines, never from history', () => {
  const { peer, memory } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.say(
    ':s BATCH +h chathistory #c',
    '@batch=h;msgid=s1-2 :b!b@h PRIVMSG #c :old',
    ':s BATCH -h',
    '@msgid=s1-8;chatroom.dev/seen=s0-3 :b!b@h JOIN #c',
  );
  assert.deepEqual(memory.seen, ['s1-8', 's0-3']);
});

test('a replay that breaks off is resumed from what was seen of it', () => {
  const { peer } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.drop();
  peer.pass(1_000);
  peer.socket.accept();
  peer.socket.say(':s CAP * LS :batch chatroom.dev/resume', ':s CAP * ACK :batch chatroom.dev/resume');
  peer.socket.say(
    ':s RESUME SUCCESS ann',
    ':s RESUME TOKEN T2',
    ':s BATCH +r chatroom.dev/resume',
    '@batch=r;msgid=s1-6 :b!b@h PRIVMSG #c :x',
  );
  peer.socket.drop();
  peer.pass(2_000);
  assert.ok(resume(peer.socket, 'ann', 'T3').includes('RESUME T2 s1-6'));
});

test('waiting grows with failures, is spread by chance, is bounded, and starts anew after a good while', () => {
  assert.ok(backoffMs(0, () => 0) >= 200 && backoffMs(0, () => 1) <= 500);
  assert.notEqual(
    backoffMs(3, () => 0),
    backoffMs(3, () => 1),
  );
  assert.equal(
    backoffMs(50, () => 1),
    30_000,
  );
  const { peer, events } = begin();
  const waits = () => events.filter((event) => event.phase === 'waiting').map((event) => event.failures);
  for (let round = 0; round < 3; round += 1) {
    peer.socket.drop();
    while (peer.sockets.length < round + 2) peer.pass(100);
  }
  assert.deepEqual(waits(), [1, 2, 3]);
  register(peer.socket, 'ann', 'T1');
  peer.pass(11_000);
  peer.socket.drop();
  assert.equal(waits().at(-1), 1);
});

test('close codes are followed: stop, later, again', () => {
  assert.deepEqual([1000, 1006, 1012, 1013, 4000, 4099, 4500, 4599].map(closeAdvice), [
    'again',
    'again',
    'again',
    'later',
    'again',
    'again',
    'stop',
    'stop',
  ]);
  const { peer, phase, connection, memory } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.say(':s ERROR :Resumed by another connection');
  peer.socket.drop(4501);
  peer.pass(120_000);
  assert.equal(phase(), 'stopped');
  assert.equal(peer.sockets.length, 1);
  connection.retryNow();
  assert.equal(peer.sockets.length, 2);
  assert.equal(memory.record.token, 'T1');
});

test('a silent server is asked, and left when it does not answer', () => {
  const { peer, phase } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.pass(80_000);
  assert.deepEqual(peer.socket.heardCommands(), ['PING']);
  peer.socket.say(':s PONG s :alive');
  peer.pass(80_000);
  assert.deepEqual(peer.socket.heardCommands(), ['PING']);
  peer.pass(20_000);
  assert.notEqual(phase(), 'online');
});

test('after waking up a dead link is found quickly', () => {
  const { peer, connection, phase } = begin();
  register(peer.socket, 'ann', 'T1');
  connection.probe();
  peer.pass(5_000);
  assert.equal(phase(), 'waiting');
});

test('a server that never answers, or never finishes, is given up', () => {
  const { peer, phase } = begin();
  peer.pass(15_000);
  assert.equal(phase(), 'waiting');
  peer.pass(1_000);
  peer.socket.accept();
  peer.pass(31_000);
  assert.ok(peer.sockets.length >= 3);
});

test('PING is answered with the same text', () => {
  const { peer } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.say('PING :a b');
  assert.deepEqual(peer.socket.heard(), ['PONG :a b']);
});

test('RECONNECT moves within the seconds named, and resumes', () => {
  const { peer, phase } = begin();
  register(peer.socket, 'ann', 'T1');
  const [first] = peer.sockets;
  peer.socket.say(':s RECONNECT node-2:8080 20');
  assert.equal(phase(), 'moving');
  peer.pass(9_000);
  assert.equal(peer.sockets.length, 1);
  peer.pass(2_000);
  assert.equal(peer.sockets.length, 2);
  assert.equal(first.readyState, 3);
  assert.ok(resume(peer.socket, 'ann', 'T2').some((line) => line.startsWith('RESUME T1')));
  assert.equal(phase(), 'online');
});

test('a server that cannot resume now is tried again with the same token', () => {
  const { peer, memory, types, events } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.drop();
  peer.pass(1_000);
  peer.socket.accept();
  peer.socket.say(
    ':s CAP * LS :batch chatroom.dev/resume',
    ':s CAP * ACK :batch chatroom.dev/resume',
    ':s FAIL RESUME TRY_AGAIN :no quorum',
  );
  peer.socket.drop(1013);
  assert.equal(memory.record.token, 'T1');
  assert.ok(!types().includes('tokenRefused') && !events.slice(-3).some((event) => event.type === 'line'));
  assert.equal(events.at(-1).reason, 'no quorum');
  peer.pass(10_000);
  assert.equal(peer.sockets.length, 3);
});

test('a refused token is forgotten and a new session begins under the same nick or one like it', () => {
  const { peer, memory, types } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.drop();
  peer.pass(1_000);
  peer.socket.accept();
  peer.socket.say(
    ':s CAP * LS :batch chatroom.dev/resume',
    ':s CAP * ACK :batch chatroom.dev/resume',
    ':s FAIL RESUME INVALID_TOKEN :gone',
  );
  assert.equal(memory.record.token, '');
  peer.socket.say(':s 433 * ann :in use', ':s 001 ann_ :hi', ':s 376 ann_ :end');
  assert.ok(peer.socket.heard().includes('NICK ann_'));
  assert.deepEqual(
    types().filter((type) => type === 'tokenRefused' || type === 'registered'),
    ['registered', 'tokenRefused', 'registered'],
  );
});

test('a refused nick ends the attempt until the person chooses another', () => {
  const { peer, events } = begin();
  peer.socket.accept();
  peer.socket.say(':s CAP * LS :', ':s 433 * ann :in use');
  peer.pass(120_000);
  assert.equal(peer.sockets.length, 1);
  assert.ok(events.some((event) => event.type === 'nickRefused' && event.nick === 'ann'));
});

test('a burst of lines is sent at the pace the server allows, in order', () => {
  const { peer, connection } = begin();
  register(peer.socket, 'ann', 'T1');
  peer.socket.heard();
  for (let index = 0; index < 40; index += 1) connection.send({ command: 'PRIVMSG', params: ['#c', `n${index}`] });
  const atOnce = peer.socket.heard();
  assert.ok(atOnce.length > 5 && atOnce.length <= 20);
  peer.pass(10_000);
  const all = [...atOnce, ...peer.socket.heard()];
  assert.deepEqual(
    all,
    Array.from({ length: 40 }, (_, index) => `PRIVMSG #c n${index}`),
  );
});

test('nothing is sent before the welcome or after the end', () => {
  const { peer, connection, phase } = begin();
  assert.equal(connection.send({ command: 'JOIN', params: ['#c'] }), false);
  register(peer.socket, 'ann', 'T1');
  assert.equal(connection.send({ command: 'JOIN', params: ['#c'] }), true);
  connection.leave('bye');
  assert.ok(peer.socket.heard().includes('QUIT bye'));
  assert.equal(connection.send({ command: 'JOIN', params: ['#c'] }), false);
  peer.pass(120_000);
  assert.equal(peer.sockets.length, 1);
  assert.equal(phase(), 'stopped');
});

test('events of an old connection change nothing', () => {
  const { peer, connection, phase } = begin();
  register(peer.socket, 'ann', 'T1');
  const [old] = peer.sockets;
  connection.start({ nick: 'ann', alternate: true });
  resume(peer.socket, 'ann', 'T2');
  old.drop(4500);
  old.say(':s RESUME TOKEN STALE');
  assert.equal(phase(), 'online');
});
