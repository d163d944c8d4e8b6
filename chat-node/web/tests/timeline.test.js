import assert from 'node:assert/strict';
import { test } from 'node:test';
import { append, mergeHistory, presenceText, rows, trim } from '../timeline.js';

const MINUTE = 60_000;
const said = (msgid, time, more = {}) => ({
  key: msgid,
  msgid,
  kind: 'message',
  from: 'bob',
  text: msgid,
  time,
  ...more,
});
const keys = (items) => items.map((item) => item.key);
const dayOf = (time) => String(Math.floor(time / 86_400_000));

test('the same message is shown once', () => {
  const items = append([], said('s-1', 1));
  assert.equal(append(items, said('s-1', 1)), items);
  assert.equal(append(items, said('s-1', 1, { key: 'out:1' })), items);
  assert.equal(append(items, { key: 's-1 JOIN', msgid: 's-1', kind: 'join', who: 'x', time: 1 }).length, 2);
});

test('what still waits for the server stays last', () => {
  const pending = said('', 1, { key: 'out:1', msgid: '', state: 'pending' });
  const items = append(append([], pending), said('s-1', 2));
  assert.deepEqual(keys(items), ['s-1', 'out:1']);
});

test('history is merged by place in the stream, without doubles', () => {
  const live = [said('s-5', 500), said('s-6', 500), said('', 900, { key: 'out:1', msgid: '', state: 'pending' })];
  const merged = mergeHistory(live, [said('s-3', 500), said('s-4', 500), said('s-5', 500), said('s-7', 600)]);
  assert.deepEqual(keys(merged), ['s-3', 's-4', 's-5', 's-6', 's-7', 'out:1']);
  assert.equal(mergeHistory(live, [said('s-6', 500)], { latest: true }), live);
});

test('the stream, not the clock, says what came first', () => {
  const merged = mergeHistory([said('s-5', 600)], [said('s-4', 700)]);
  assert.deepEqual(keys(merged), ['s-4', 's-5']);
});

test('streams without a common order are merged by time', () => {
  const merged = mergeHistory([said('a-1', 10), said('a-2', 30)], [said('b-9', 5), said('b-10', 20)]);
  assert.deepEqual(keys(merged), ['b-9', 'a-1', 'b-10', 'a-2']);
});

test('the latest history leaves a mark where it does not reach what is already here', () => {
  const here = [said('s-1', 10), said('s-2', 20)];
  const apart = mergeHistory(here, [said('s-50', 500), said('s-51', 510)], { latest: true });
  assert.deepEqual(
    apart.map((item) => item.kind),
    ['message', 'message', 'gap', 'message', 'message'],
  );
  const joined = mergeHistory(here, [said('s-2', 20), said('s-3', 30)], { latest: true });
  assert.deepEqual(keys(joined), ['s-1', 's-2', 's-3']);
  const older = mergeHistory(here, [said('s-0', 5)]);
  assert.deepEqual(keys(older), ['s-0', 's-1', 's-2']);
});

test('a gap mark keeps its place when what is still kept is loaded after it', () => {
  const here = append([said('s-1', 10)], { key: 'gap:s-8', kind: 'gap', time: 10, oldest: 's-8' });
  const merged = mergeHistory(append(here, said('s-9', 90)), [said('s-8', 80), said('s-9', 90)], { latest: true });
  assert.deepEqual(keys(merged), ['s-1', 'gap:s-8', 's-8', 's-9']);
});

test('a gap is filled until it reaches what is before it, or there is nothing to fill it with', () => {
  const here = mergeHistory([said('s-1', 10)], [said('s-50', 500)], { latest: true });
  const gap = here[1].key;
  const nearer = mergeHistory(here, [said('s-30', 300), said('s-40', 400)], { gap });
  assert.deepEqual(keys(nearer), ['s-1', gap, 's-30', 's-40', 's-50']);
  assert.deepEqual(keys(mergeHistory(nearer, [said('s-1', 10), said('s-2', 20)], { gap })), [
    's-1',
    's-2',
    's-30',
    's-40',
    's-50',
  ]);
  const lost = mergeHistory(nearer, [], { gap });
  assert.deepEqual([keys(lost), lost[1].final], [keys(nearer), true]);
});

test('a long channel drops its oldest lines', () => {
  let items = [];
  for (let index = 0; index < 3_001; index += 1) items.push(said(`s-${index}`, index));
  const [kept, dropped] = trim(items);
  assert.equal(dropped, true);
  assert.equal(kept.at(-1).key, 's-3000');
  assert.ok(kept.length < 3_000);
  items = items.slice(0, 10);
  assert.deepEqual(trim(items), [items, false]);
});

test('messages of one person in a row share a head, until time passes or something comes between', () => {
  const list = rows(
    [
      said('s-1', 0),
      said('s-2', MINUTE),
      said('s-3', 10 * MINUTE),
      said('s-4', 10 * MINUTE, { from: 'ann' }),
      { key: 'j', kind: 'join', who: 'x', time: 10 * MINUTE },
      said('s-5', 10 * MINUTE, { from: 'ann' }),
    ],
    { dayOf },
  );
  assert.deepEqual(
    list.map((row) => [row.kind, row.head]),
    [
      ['day', undefined],
      ['message', true],
      ['message', false],
      ['message', true],
      ['message', true],
      ['presence', undefined],
      ['message', true],
    ],
  );
});

test('days and the place where reading stopped become rows', () => {
  const list = rows([said('s-1', 0), said('s-2', 86_400_000), said('s-3', 86_400_001)], { marker: 's-2', dayOf });
  assert.deepEqual(
    list.map((row) => row.kind),
    ['day', 'message', 'day', 'message', 'marker', 'message'],
  );
  const caughtUp = rows([said('s-1', 0)], { marker: 's-1', dayOf });
  assert.deepEqual(
    caughtUp.map((row) => row.kind),
    ['day', 'message'],
  );
});

test('the mark survives when reading stopped in the middle of comings and goings', () => {
  const list = rows(
    [
      said('s-1', 0),
      { key: 'a', kind: 'join', who: 'x', time: 0 },
      { key: 'b', kind: 'join', who: 'y', time: 0 },
      said('s-2', 1),
    ],
    { marker: 'a', dayOf },
  );
  assert.deepEqual(
    list.map((row) => row.kind),
    ['day', 'message', 'presence', 'presence', 'marker', 'message'],
  );
});

test('a row is stamped anew exactly when it looks different', () => {
  const stamps = (items) => rows(items, { dayOf }).map((row) => row.stamp);
  const before = [said('s-1', 0), said('s-2', 1, { self: true, state: 'pending' })];
  const after = [before[0], { ...before[1], state: 'acknowledged' }];
  assert.equal(stamps(before)[1], stamps(after)[1]);
  assert.notEqual(stamps(before)[2], stamps(after)[2]);
});

test('comings and goings read as a sentence', () => {
  const go = (kind, who, more) => ({ kind, who, ...more });
  assert.equal(
    presenceText([go('join', 'ann'), go('join', 'bob'), go('part', 'carl')]).text,
    'ann and bob joined · carl left',
  );
  assert.equal(presenceText([go('join', 'ann'), go('quit', 'ann')]).text, 'ann came and went');
  assert.equal(presenceText([go('quit', 'ann'), go('join', 'ann')]).text, 'ann left and came back');
  assert.equal(
    presenceText([go('join', 'ann'), go('nick', 'ann', { now: 'anna' }), go('quit', 'anna')]).text,
    'anna came and went · ann is now anna',
  );
  assert.equal(presenceText([go('quit', 'ann', { reason: 'lunch' })]).text, 'ann left (lunch)');
  const crowd = presenceText(Array.from({ length: 9 }, (_, index) => go('join', `n${index}`)));
  assert.equal(crowd.text, 'n0, n1, n2 and 6 others joined');
  assert.match(crowd.full, /n8 joined$/);
});
