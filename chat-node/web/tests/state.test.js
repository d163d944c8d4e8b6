import assert from 'node:assert/strict';
import { test } from 'node:test';
import { parseLine } from '../irc.js';
import { sign, sortMembers } from '../members.js';
import { conversationOrder, initialState, reduce } from '../state.js';
import { rows } from '../timeline.js';

const NOW = Date.parse('2024-05-01T10:00:00Z');

/** The state after `lines`, as the person `me`. */
function after(lines, from = { ...initialState(), nick: 'me' }) {
  return lines.reduce(
    (state, line) =>
      typeof line === 'string'
        ? reduce(state, { type: 'line', message: parseLine(line), now: NOW, ownId: 0, origin: '' })
        : reduce(state, line),
    from,
  );
}

const JOINED = [
  ':me!m@h JOIN #c',
  ':s 332 me #c :the topic',
  ':s 333 me #c ann!a@h 1700000000',
  ':s 353 me = #c :@ann +bob me',
  ':s 353 me = #c :@carl',
  ':s 366 me #c :End',
  { type: 'selected', key: '#c' },
];
const channel = (state, key = '#c') => state.buffers.get(key);
const texts = (state, key = '#c') => channel(state, key).items.map((item) => item.text ?? item.kind);
const names = (state, key = '#c') =>
  sortMembers(channel(state, key).members, state.support).map((member) => sign(member, state.support) + member.nick);

test('joining shows the topic and who is there, by rank', () => {
  const state = after([':s 005 me PREFIX=(qov)~@+ :are supported', ...JOINED, ':ann!a@h MODE #c +q carl']);
  assert.equal(channel(state).joined, true);
  assert.equal(channel(state).topic, 'the topic');
  assert.equal(channel(state).topicBy, 'ann');
  assert.deepEqual(names(state), ['~carl', '@ann', '+bob', 'me']);
});

test('people come, go, are renamed, raised, away and removed', () => {
  const state = after([
    ...JOINED,
    ':dan!d@h JOIN #c',
    ':bob!b@h NICK robert',
    ':ann!a@h MODE #c +o-v robert robert',
    ':carl!c@h QUIT :bye',
    ':dan!d@h AWAY :lunch',
    ':ann!a@h KICK #c robert :why not',
  ]);
  assert.deepEqual(names(state), ['@ann', 'dan', 'me']);
  assert.equal(channel(state).members.get('dan').away, true);
  assert.ok(texts(state).includes('ann removed robert: why not'));
  assert.ok(texts(state).includes('ann made robert an operator, took voice from robert'));
  const back = after([':dan!d@h AWAY'], state);
  assert.equal(channel(back).members.get('dan').away, false);
});

test('joining anew forgets who was there before', () => {
  assert.deepEqual(names(after([...JOINED, ':me!m@h JOIN #c'])), ['me']);
});

test('NAMES replaces the list only when it is whole', () => {
  const state = after([...JOINED, ':s 353 me = #c :@me']);
  assert.equal(names(state).length, 4);
  assert.deepEqual(names(after([':s 366 me #c :End'], state)), ['@me']);
  const outside = after([...JOINED, ':s 353 me = #c :bob', ':s 366 me #c :End']);
  assert.equal(channel(outside).joined, false);
});

test('leaving and being removed leaves the conversation readable', () => {
  for (const line of [':me!m@h PART #c', ':ann!a@h KICK #c me :out']) {
    const state = after([...JOINED, line]);
    assert.equal(channel(state).joined, false);
    assert.equal(channel(state).members.size, 0);
  }
});

test('a topic change is seen in the title and in the talk', () => {
  const state = after([...JOINED, ':bob!b@h TOPIC #c :new one']);
  assert.equal(channel(state).topic, 'new one');
  assert.ok(texts(state).includes('bob set the topic: new one'));
});

test('an own message waits, is acknowledged by its echo, and stays one message', () => {
  const entry = { id: 5, target: '#c', kind: 'privmsg', text: 'hi', time: NOW, state: 'pending' };
  const waiting = after([...JOINED, { type: 'outgoing', entry }]);
  assert.equal(channel(waiting).items.at(-1).state, 'pending');
  const between = after(['@msgid=s-1 :bob!b@h PRIVMSG #c :first'], waiting);
  const echo = parseLine('@msgid=s-2;chatroom.dev/id=5 :me!m@h PRIVMSG #c :hi');
  const done = reduce(between, { type: 'line', message: echo, now: NOW, ownId: 5, origin: '' });
  const spoken = channel(done).items.filter((item) => item.from);
  assert.deepEqual(
    spoken.map((item) => [item.text, item.state, item.msgid]),
    [
      ['first', undefined, 's-1'],
      ['hi', 'acknowledged', 's-2'],
    ],
  );
  const again = reduce(done, { type: 'line', message: echo, now: NOW, ownId: 5, origin: '' });
  assert.equal(channel(again).items.length, channel(done).items.length);
});

test('an acknowledgement moves no name: what follows an own message stands under it from the start', () => {
  const entry = { id: 5, target: '#c', kind: 'privmsg', text: 'and', time: NOW, state: 'pending' };
  const before = after([...JOINED, '@msgid=s-1 :me!m@h PRIVMSG #c :one']);
  const waiting = after([{ type: 'outgoing', entry }], before);
  const heads = (state) => rows(channel(state).items).flatMap((row) => ('head' in row && row.item.from ? [row.head] : []));
  assert.deepEqual(heads(waiting), [true, false]);
  const echo = parseLine('@msgid=s-2;chatroom.dev/id=5 :me!m@h PRIVMSG #c :and');
  const done = reduce(waiting, { type: 'line', message: echo, now: NOW, ownId: 5, origin: '' });
  assert.deepEqual(heads(done), [true, false]);
});

test('an answered duplicate settles the waiting copy and adds none', () => {
  const entry = { id: 5, target: '#c', kind: 'privmsg', text: 'hi', time: NOW, state: 'pending' };
  const outcome = { type: 'outcome', id: 5, target: '#c', outcome: 'acknowledged', msgid: 's-2' };
  const unseen = after([...JOINED, { type: 'outgoing', entry }, outcome]);
  assert.deepEqual([channel(unseen).items.at(-1).state, channel(unseen).items.at(-1).msgid], ['acknowledged', 's-2']);
  const seen = after([...JOINED, { type: 'outgoing', entry }, '@msgid=s-2 :me!m@h PRIVMSG #c :hi', outcome]);
  assert.equal(channel(seen).items.filter((item) => item.text === 'hi').length, 1);
});

test('unread and mentions are counted for what is not on the screen, and end when it is', () => {
  const away = after([
    ...JOINED,
    { type: 'selected', key: '*' },
    '@msgid=s-1 :bob!b@h PRIVMSG #c :hello',
    '@msgid=s-2 :bob!b@h PRIVMSG #c :me: look',
  ]);
  assert.deepEqual([channel(away).unread, channel(away).mentions], [2, 1]);
  const back = after([{ type: 'selected', key: '#c' }], away);
  assert.deepEqual([channel(back).unread, channel(back).mentions], [0, 0]);
  assert.notEqual(channel(back).marker, '');
  const read = after(['@msgid=s-9 :bob!b@h PRIVMSG #c :on the screen'], back);
  assert.equal(channel(read).unread, 0);
  const hidden = after([{ type: 'visible', visible: false }, '@msgid=s-3 :bob!b@h PRIVMSG #c :again'], back);
  assert.equal(channel(hidden).unread, 1);
  assert.equal(channel(after([{ type: 'visible', visible: true }], hidden)).unread, 0);
});

test('history is neither unread nor a mention, and makes no member', () => {
  const messages = [
    parseLine('@msgid=s-1;time=2024-05-01T09:00:00.000Z :old!o@h PRIVMSG #c :me: look'),
    parseLine(':x!x@h JOIN #c'),
  ];
  const state = after([
    ...JOINED,
    { type: 'selected', key: '*' },
    { type: 'history', key: '#c', messages, mode: 'latest', now: NOW },
  ]);
  assert.equal(channel(state).unread, 0);
  assert.equal(channel(state).members.has('old'), false);
  assert.equal(channel(state).items[0].time, Date.parse('2024-05-01T09:00:00.000Z'));
  assert.equal(channel(state).end, '');
  const end = after([{ type: 'history', key: '#c', messages: [], mode: 'before', now: NOW }], state);
  assert.equal(channel(end).end, 'reached');
});

test('direct messages open a conversation, notices and servers do not', () => {
  const state = after([
    '@msgid=s-1 :Bob!b@h PRIVMSG me :psst',
    ':carl!c@h NOTICE me :beep',
    ':irc.example NOTICE me :hello',
  ]);
  assert.deepEqual(conversationOrder(state), ['*', 'bob']);
  assert.equal(channel(state, 'bob').mentions, 1);
  assert.deepEqual(texts(state, '*'), ['beep', 'hello']);
  const renamed = after([':Bob!b@h NICK Robert'], state);
  assert.deepEqual(conversationOrder(renamed), ['*', 'robert']);
  const own = after(['@msgid=s-9 :me!m@h PRIVMSG dora :hi'], state);
  assert.equal(channel(own, 'dora').items[0].self, true);
});

test('a message to operators only is shown in the channel and says so', () => {
  const state = after([...JOINED, '@msgid=s-1 :ann!a@h PRIVMSG @#c :ops only']);
  assert.equal(channel(state).items.at(-1).to, '@');
});

test('actions are actions, other CTCP is not shown as text', () => {
  const state = after([...JOINED, ':bob!b@h PRIVMSG #c :\x01ACTION waves\x01', ':bob!b@h PRIVMSG #c :\x01VERSION\x01']);
  assert.deepEqual([channel(state).items.at(-1).kind, channel(state).items.at(-1).text], ['action', 'waves']);
});

test('a gap is marked where it is', () => {
  const state = after([
    ...JOINED,
    '@msgid=s-1 :bob!b@h PRIVMSG #c :before',
    { type: 'gap', target: '#c', oldest: 's-9', now: NOW },
    '@msgid=s-9 :bob!b@h PRIVMSG #c :after',
  ]);
  assert.deepEqual(
    channel(state)
      .items.slice(-3)
      .map((item) => item.kind),
    ['message', 'gap', 'message'],
  );
});

test('errors are words with what to do, in the conversation they are about', () => {
  const state = after([
    ...JOINED,
    { type: 'selected', key: '*' },
    ':s 482 me #c :Not op',
    ':s 433 me other :in use',
    ':s FAIL CHATHISTORY X #c :odd',
  ]);
  assert.ok(texts(state).some((text) => text.includes('Only operators of #c')));
  assert.ok(texts(state, '*').some((text) => text.includes('other is taken')));
  const unknown = after([...JOINED, ':s 999 me :strange thing', ':s 471 me #c :full']);
  assert.ok(texts(unknown).includes('strange thing'));
});

test('WHOIS becomes one card', () => {
  const state = after([
    ...JOINED,
    ':s 311 me bob b h * :Bob',
    ':s 319 me bob :@#c #d',
    ':s 301 me bob :lunch',
    ':s 318 me bob :End',
  ]);
  const card = channel(state).items.at(-1);
  assert.equal(card.text, 'About bob');
  assert.deepEqual(card.lines, ['Bob (b@h)', 'In @#c #d', 'Away: lunch']);
});

test('a lost session keeps the channels open, to be joined again', () => {
  const state = after([...JOINED, { type: 'sessionLost' }]);
  assert.deepEqual([channel(state).joined, channel(state).rejoin, channel(state).members.size], [false, true, 0]);
  const back = after([':me!m@h JOIN #c'], state);
  assert.deepEqual([channel(back).joined, channel(back).rejoin], [true, false]);
});

test('closing the open conversation shows its neighbour', () => {
  const state = after([
    ':me!m@h JOIN #a',
    ':me!m@h JOIN #b',
    { type: 'selected', key: '#b' },
    { type: 'closed', key: '#b' },
  ]);
  assert.equal(state.active, '#a');
  assert.deepEqual(conversationOrder(state), ['*', '#a']);
  assert.equal(after([{ type: 'closed', key: '*' }], state), state);
});

test('what does not concern a conversation leaves it untouched', () => {
  const state = after([...JOINED, ':me!m@h JOIN #d', { type: 'selected', key: '*' }]);
  const next = after(['@msgid=s-1 :bob!b@h PRIVMSG #d :x'], state);
  assert.equal(channel(next), channel(state));
  assert.notEqual(channel(next, '#d'), channel(state, '#d'));
});

test('names of object properties are just names', () => {
  const state = after([
    ':me!m@h JOIN #constructor',
    ':__proto__!x@h PRIVMSG me :hi',
    ':constructor!x@h PRIVMSG me :hi',
  ]);
  assert.deepEqual(conversationOrder(state), ['*', '#constructor', '__proto__', 'constructor']);
});
