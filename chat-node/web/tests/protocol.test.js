import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Batches } from '../batches.js';
import { Handshake } from '../handshake.js';
import { Memory } from '../memory.js';
import { Outbox, answeredId, messageLine } from '../outbox.js';
import { formatLine, parseLine } from '../irc.js';

/** Feeds lines to a handshake and gives back what it says, and the events. */
function talk(handshake, ...lines) {
  const said = [];
  const events = [];
  for (const line of lines) {
    const { send, event } = handshake.receive(parseLine(line));
    said.push(...send.map(formatLine));
    if (event) events.push(event);
  }
  return { said, events };
}

const OFFER =
  ':s CAP * LS :message-tags batch echo-message draft/chathistory=x chatroom.dev/id chatroom.dev/resume sasl=PLAIN';
const GRANT = ':s CAP * ACK :message-tags batch echo-message draft/chathistory chatroom.dev/id chatroom.dev/resume';

test('a new session registers, with the password first and only known capabilities', () => {
  const handshake = new Handshake({ nick: 'Ann-1', password: 'secret word' }, null);
  assert.deepEqual(handshake.begin().map(formatLine), ['CAP LS 302']);
  const { said } = talk(handshake, OFFER);
  assert.equal(said.length, 1);
  assert.match(said[0], /^CAP REQ :.*chatroom\.dev\/resume$/);
  assert.doesNotMatch(said[0], /sasl/);
  const after = talk(handshake, GRANT);
  assert.deepEqual(after.said, ['PASS :secret word', 'NICK Ann-1', 'USER ann1 0 * Ann-1', 'CAP END']);
  assert.equal(handshake.caps.has('chatroom.dev/id'), true);
  assert.equal(handshake.caps.has('sasl'), false);
  assert.deepEqual(talk(handshake, ':s 001 Ann-1 :hi', ':s 422 Ann-1 :no motd').events, [
    { type: 'registered', nick: 'Ann-1' },
  ]);
  assert.equal(handshake.done, true);
});

test('capabilities over several lines are gathered before anything is asked for', () => {
  const handshake = new Handshake({ nick: 'ann' }, null);
  assert.deepEqual(talk(handshake, ':s CAP * LS * :batch').said, []);
  assert.deepEqual(talk(handshake, ':s CAP * LS :echo-message').said, ['CAP REQ :batch echo-message']);
});

test('a resume sends no nick, and says where each stream was', () => {
  const handshake = new Handshake({ nick: 'ann' }, { tokens: ['T'], seen: ['d0-4', 's1-9'] });
  const { said, events } = talk(handshake, OFFER, GRANT, ':s RESUME SUCCESS ann2');
  assert.deepEqual(said.slice(1), ['RESUME T d0-4,s1-9', 'CAP END']);
  assert.deepEqual(events, [{ type: 'resuming' }, { type: 'resumed', nick: 'ann2' }]);
});

test('a resume that saw nothing says so, one that saw much takes several lines', () => {
  const empty = new Handshake({ nick: 'ann' }, { tokens: ['T'], seen: [] });
  assert.equal(talk(empty, OFFER, GRANT).said[1], 'RESUME T *');
  const seen = Array.from({ length: 60 }, (_, index) => `shard${index}.lineage-1000`);
  const { said } = talk(new Handshake({ nick: 'ann' }, { tokens: ['T'.repeat(64)], seen }), OFFER, GRANT);
  const lines = said.filter((line) => line.startsWith('RESUME'));
  assert.ok(lines.length > 1 && lines.every((line) => line.length < 500));
  assert.ok(lines.slice(1).every((line) => line.startsWith('RESUME + ')));
  assert.deepEqual(
    lines.flatMap((line) => line.split(' ')[2].split(',')),
    seen,
  );
});

test('a refused token leads to a new registration on the same connection', () => {
  const handshake = new Handshake({ nick: 'ann', alternate: true }, { tokens: ['T'], seen: [] });
  const { said, events } = talk(
    handshake,
    OFFER,
    GRANT,
    ':s FAIL RESUME INVALID_TOKEN :gone',
    ':s 433 * ann :in use',
    ':s 376 ann_ :end',
  );
  assert.deepEqual(said.slice(3), ['NICK ann', 'USER ann 0 * ann', 'NICK ann_']);
  assert.deepEqual(
    events.map((event) => event.type),
    ['resuming', 'tokenRefused', 'registered'],
  );
});

test('a server without resume loses the session openly', () => {
  const handshake = new Handshake({ nick: 'ann' }, { tokens: ['T'], seen: [] });
  const { said, events } = talk(handshake, ':s CAP * LS :batch', ':s CAP * ACK :batch');
  assert.deepEqual(said.slice(1), ['NICK ann', 'USER ann 0 * ann', 'CAP END']);
  assert.deepEqual(events, [{ type: 'tokenRefused' }]);
});

test('a taken nick is for the person to change, unless a like one may be tried', () => {
  const asked = talk(new Handshake({ nick: 'ann' }, null), ':s CAP * LS :', ':s 433 * ann :in use');
  assert.deepEqual(asked.events, [{ type: 'nickRefused', code: '433', nick: 'ann', text: 'in use' }]);
  const patient = new Handshake({ nick: 'ann', alternate: true }, null);
  const lines = Array.from({ length: 6 }, () => ':s 433 * ann :in use');
  assert.equal(talk(patient, ':s CAP * LS :', ...lines).events.length, 1);
});

test('try again and refusals are told apart', () => {
  const busy = talk(
    new Handshake({ nick: 'ann' }, { tokens: ['T'], seen: [] }),
    OFFER,
    GRANT,
    ':s FAIL RESUME TRY_AGAIN :no quorum',
  );
  assert.deepEqual(busy.events.at(-1), { type: 'tryLater', text: 'no quorum' });
  const refused = talk(new Handshake({ nick: 'ann' }, null), ':s CAP * LS :', ':s 464 * :Password incorrect');
  assert.deepEqual(refused.events, [{ type: 'refused', code: '464', text: 'Password incorrect' }]);
});

test('history comes as a whole, everything else at once with its context', () => {
  const batches = new Batches();
  const feed = (line) => batches.accept(parseLine(line));
  assert.equal(feed('@label=r1 :s BATCH +h chathistory #c'), null);
  assert.equal(feed('@batch=h;msgid=s-1 :a PRIVMSG #c :one'), null);
  assert.equal(feed(':b PRIVMSG #c :live').kind, 'line');
  const history = feed(':s BATCH -h');
  assert.deepEqual([history.kind, history.target, history.label, history.messages.length], ['history', '#c', 'r1', 1]);
  feed(':s BATCH +r chatroom.dev/resume');
  assert.equal(feed('@batch=r :a PRIVMSG #c :missed').replay, true);
  assert.equal(feed(':s BATCH -r').kind, 'replayEnd');
  feed('@label=m7 :s BATCH +l labeled-response');
  assert.equal(feed('@batch=l :me PRIVMSG #c :x').label, 'm7');
  feed('@batch=l :s BATCH +inner chathistory #d');
  assert.equal(feed('@batch=inner :a PRIVMSG #d :x'), null);
  assert.equal(feed(':s BATCH -inner').label, 'm7');
  assert.equal(feed(':s BATCH -unknown'), null);
});

test('batches that are never closed do not pile up', () => {
  const batches = new Batches();
  for (let index = 0; index < 1_000; index += 1) batches.accept(parseLine(`:s BATCH +b${index} chathistory #c`));
  assert.equal(batches.accept(parseLine('@batch=b0 :a PRIVMSG #c :x')).kind, 'line');
  assert.equal(batches.accept(parseLine('@batch=b999 :a PRIVMSG #c :x')), null);
});

test('a message keeps its id until it is settled, and no id is used twice', () => {
  const outbox = new Outbox();
  const first = outbox.add({ target: '#c', kind: 'privmsg', text: 'one', time: 1 });
  const second = outbox.add({ target: '#c', kind: 'action', text: 'two', time: 2 });
  outbox.markTried(first.id);
  outbox.postpone(first.id, 'later');
  assert.deepEqual(
    outbox.unsent().map((entry) => entry.id),
    [first.id, second.id],
  );
  assert.equal(outbox.acknowledge(first.id).text, 'one');
  assert.equal(outbox.acknowledge(first.id), undefined);
  const restored = new Outbox({ nextId: outbox.nextId, outbox: JSON.parse(JSON.stringify(outbox.all())) });
  assert.ok(restored.add({ target: '#c', kind: 'privmsg', text: 'three', time: 3 }).id > second.id);
  assert.equal(restored.get(second.id).text, 'two');
});

test('after a lost session only what was never sent goes out by itself', () => {
  const outbox = new Outbox();
  const sent = outbox.add({ target: '#c', kind: 'privmsg', text: 'one', time: 1 });
  const kept = outbox.add({ target: '#c', kind: 'privmsg', text: 'two', time: 2 });
  outbox.markTried(sent.id);
  assert.deepEqual(
    outbox.startNewSession().map((entry) => [entry.id, entry.state]),
    [[sent.id, 'unsure']],
  );
  assert.deepEqual(
    outbox.unsent().map((entry) => entry.id),
    [kept.id],
  );
});

test('retries wait longer each time, up to a bound, and start anew after a success', () => {
  const outbox = new Outbox();
  const waits = Array.from({ length: 8 }, () => outbox.nextRetryMs());
  assert.ok(waits[1] > waits[0] && waits.at(-1) === waits.at(-2));
  outbox.acknowledge(outbox.add({ target: '#c', kind: 'privmsg', text: 'x', time: 1 }).id);
  assert.equal(outbox.nextRetryMs(), waits[0]);
});

test('a message carries what the server negotiated, and its answer is recognized', () => {
  const entry = { id: 12, target: '#c', kind: 'action', text: 'waves' };
  const all = messageLine(entry, new Set(['chatroom.dev/id', 'labeled-response']));
  assert.deepEqual(all, {
    tags: { 'chatroom.dev/id': '12', label: 'm12' },
    command: 'PRIVMSG',
    params: ['#c', '\x01ACTION waves\x01'],
  });
  assert.deepEqual(messageLine({ ...entry, kind: 'notice' }, new Set()), {
    tags: {},
    command: 'NOTICE',
    params: ['#c', 'waves'],
  });
  assert.equal(answeredId(parseLine('@chatroom.dev/id=12 PRIVMSG #c :x'), ''), 12);
  assert.equal(answeredId(parseLine('PRIVMSG #c :x'), 'm12'), 12);
  assert.equal(answeredId(parseLine('PRIVMSG #c :x'), 'r12'), 0);
});

test('memory keeps one position per stream, survives a reload and bad storage', () => {
  const stored = new Map();
  const storage = { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
  const memory = new Memory(storage);
  for (const msgid of ['a-1', 'b.x-1', 'a-2', 'nodash', '-5']) memory.see(msgid);
  assert.deepEqual(memory.seen, ['b.x-1', 'a-2']);
  memory.update({ token: 'T' });
  const again = new Memory(storage);
  assert.equal(again.resumable, true);
  assert.deepEqual(again.seen, ['b.x-1', 'a-2']);
  for (let index = 0; index < 400; index += 1) again.see(`s${index}-1`);
  assert.ok(again.seen.length <= 256 && again.seen.at(-1) === 's399-1');
  again.forgetToken();
  assert.deepEqual([again.resumable, again.seen], [false, []]);
  stored.set('chatroom.session', '{broken');
  assert.equal(new Memory(storage).resumable, false);
  assert.equal(new Memory(null).resumable, false);
  const refusing = new Memory({
    getItem: () => null,
    setItem: () => {
      throw new Error('full');
    },
  });
  refusing.update({ token: 'T' });
  assert.equal(refusing.resumable, true);
});
