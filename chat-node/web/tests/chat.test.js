import assert from 'node:assert/strict';
import { test } from 'node:test';
import { Chat } from '../chat.js';
import { Memory } from '../memory.js';
import { parseLine } from '../irc.js';
import { Peer, register, resume } from './peer.js';

function storageOf() {
  const stored = new Map();
  return { getItem: (key) => stored.get(key) ?? null, setItem: (key, value) => stored.set(key, value) };
}

/** A chat in `#c` as `ann`, with the server's side in hand. */
function inChannel({ storage = storageOf() } = {}) {
  const page = open(storage);
  page.chat.enter({ nick: 'ann', channels: ['#c'], password: '' });
  register(page.peer.socket, 'ann', 'T1');
  page.peer.socket.say('@msgid=s1-1 :ann!a@h JOIN #c', ':s 353 ann = #c :@bob ann', ':s 366 ann #c :End');
  page.peer.socket.heard();
  return page;
}

function open(storage) {
  const peer = new Peer();
  const doors = [];
  const memory = new Memory(storage);
  const chat = new Chat({ ...peer.outside(), changed() {}, door: (reason) => doors.push(reason), browse() {} }, memory);
  const items = (key = '#c') => chat.state.buffers.get(key).items;
  const own = (key) =>
    items(key)
      .filter((item) => item.self)
      .map((item) => [item.text, item.state]);
  return { peer, chat, memory, doors, items, own, storage };
}

const idOf = (line) => parseLine(line).tags['chatroom.dev/id'];
const messages = (lines) => lines.filter((line) => parseLine(line).command === 'PRIVMSG');

/** The server's echo of a line that the client wrote. */
function echo(line, msgid) {
  const { tags, params } = parseLine(line);
  const own = `label=${tags.label};chatroom.dev/id=${tags['chatroom.dev/id']}`;
  return `@msgid=${msgid};${own} :ann!a@h PRIVMSG ${params[0]} :${params[1]}`;
}

test('entering joins the channels, fetches their history and who is there', () => {
  const { peer, chat } = open(storageOf());
  chat.enter({ nick: 'ann', channels: ['#c', '#d'], password: '' });
  register(peer.socket, 'ann', 'T1');
  assert.deepEqual(peer.socket.heard(), ['JOIN #c,#d']);
  peer.socket.say(':ann!a@h JOIN #c');
  assert.match(peer.socket.heard()[0], /CHATHISTORY LATEST #c \* 50$/);
  peer.socket.say(':s 353 ann = #c :ann', ':s 366 ann #c :End');
  assert.deepEqual(peer.socket.heardCommands(), ['WHO']);
  assert.equal(chat.state.active, '#c');
});

test('a message is shown at once, and acknowledged by its echo', () => {
  const { peer, chat, own } = inChannel();
  chat.submit('hello');
  assert.deepEqual(own(), [['hello', 'pending']]);
  const [line] = peer.socket.heard();
  peer.socket.say(echo(line, 's1-2'));
  assert.deepEqual(own(), [['hello', 'acknowledged']]);
});

test('what was not acknowledged is sent again with the same id after a resume, and shown once', () => {
  const { peer, chat, own } = inChannel();
  chat.submit('one');
  chat.submit('two');
  const first = messages(peer.socket.heard());
  peer.socket.drop();
  chat.submit('three');
  assert.deepEqual(
    own().map(([, state]) => state),
    ['pending', 'pending', 'pending'],
  );
  peer.pass(1_000);
  resume(peer.socket, 'ann', 'T2', [echo(first[0], 's1-2')]);
  const second = messages(peer.socket.heard());
  assert.deepEqual(second.map(idOf), [idOf(first[1]), '3']);
  peer.socket.say(`:s NOTE PRIVMSG DUPLICATE ${idOf(first[1])} s1-3 :seen`, echo(second[1], 's1-4'));
  assert.deepEqual(own(), [
    ['one', 'acknowledged'],
    ['two', 'acknowledged'],
    ['three', 'acknowledged'],
  ]);
});

test('after a reload the session is resumed, its channels are filled, ids go on and nothing is sent twice', () => {
  const before = inChannel();
  before.chat.submit('lost in the reload');
  const [line] = messages(before.peer.socket.heard());
  before.memory.saveIfChanged();
  const page = open(before.storage);
  page.chat.comeBack();
  assert.deepEqual(page.own(), [['lost in the reload', 'pending']]);
  assert.equal(page.chat.state.active, '#c');
  const written = resume(page.peer.socket, 'ann', 'T2');
  assert.ok(written.includes('RESUME T1 s1-1'));
  const asked = page.peer.socket.heard();
  assert.deepEqual(
    asked.map((each) => parseLine(each).command),
    ['PING', 'NAMES', 'TOPIC', 'CHATHISTORY', 'PRIVMSG'],
  );
  assert.equal(idOf(asked.at(-1)), idOf(line));
  page.chat.submit('next');
  assert.ok(Number(idOf(page.peer.socket.heard()[0])) > Number(idOf(line)));
});

test('a lost session rejoins, sends what was never sent, and asks about the rest', () => {
  const { peer, chat, own } = inChannel();
  chat.submit('sent, unanswered');
  peer.socket.drop();
  chat.submit('never sent');
  peer.pass(1_000);
  peer.socket.accept();
  const caps = 'batch echo-message labeled-response chatroom.dev/id chatroom.dev/resume';
  peer.socket.say(
    `:s CAP * LS :${caps}`,
    `:s CAP * ACK :${caps}`,
    ':s FAIL RESUME INVALID_TOKEN :gone',
    ':s 001 ann :hi',
    ':s 422 ann :-',
  );
  const written = peer.socket.heard();
  assert.ok(written.indexOf('JOIN #c') >= 0);
  assert.deepEqual(
    messages(written).map((line) => parseLine(line).params[1]),
    ['never sent'],
  );
  assert.deepEqual(own(), [
    ['sent, unanswered', 'unsure'],
    ['never sent', 'pending'],
  ]);
  const id = chat.state.buffers.get('#c').items.find((item) => item.state === 'unsure').id;
  chat.sendAgain(id);
  assert.deepEqual(
    own()
      .map(([text]) => text)
      .sort(),
    ['never sent', 'sent, unanswered'],
  );
  assert.equal(messages(peer.socket.heard()).length, 1);
});

test('a room that cannot store now gets the message again later, under the same id', () => {
  const { peer, chat, own } = inChannel();
  chat.submit('patience');
  const [line] = peer.socket.heard();
  peer.socket.say(`@label=m1 :s FAIL PRIVMSG READ_ONLY 1 :no quorum`);
  assert.deepEqual(own(), [['patience', 'waiting']]);
  chat.submit('behind it');
  assert.deepEqual(peer.socket.heard(), []);
  peer.pass(3_000);
  const again = messages(peer.socket.heard());
  assert.deepEqual(again.map(idOf), [idOf(line), '2']);
  peer.socket.say(`:s FAIL PRIVMSG UNKNOWN_RESULT 1 :timeout`, echo(again[1], 's1-3'));
  peer.pass(10_000);
  assert.deepEqual(messages(peer.socket.heard()).map(idOf), ['1']);
  peer.socket.say(':s NOTE PRIVMSG DUPLICATE 1 s1-2 :seen');
  assert.deepEqual(
    own().map(([, state]) => state),
    ['acknowledged', 'acknowledged'],
  );
});

test('a refused message says why, and can be discarded', () => {
  const { peer, chat, items, own } = inChannel();
  chat.submit('may I?');
  peer.socket.say('@label=m1 :s 404 ann #c :Cannot send');
  assert.equal(own()[0][1], 'failed');
  assert.match(items().at(-1).reason, /may not talk in #c/);
  assert.equal(items().filter((item) => item.kind === 'error').length, 0);
  chat.discard(1);
  assert.deepEqual(own(), []);
});

test('a message too long for one line goes as several, each within the limit', () => {
  const { peer, chat } = inChannel();
  chat.submit(`${'word '.repeat(200)}end`);
  const lines = messages(peer.socket.heard());
  assert.ok(lines.length > 1);
  for (const line of lines) assert.ok(line.replace(/^@\S+ /, '').length + 2 <= 512);
  assert.equal(lines.map((line) => parseLine(line).params[1]).join(' '), `${'word '.repeat(200)}end`);
});

test('scrolling back asks for what is before the oldest message, once at a time, until there is no more', () => {
  const { peer, chat, items } = inChannel();
  peer.socket.say(
    ':s BATCH +h chathistory #c',
    '@batch=h;msgid=s0-8 :bob!b@h PRIVMSG #c :eight',
    '@batch=h;msgid=s0-9 :bob!b@h PRIVMSG #c :nine',
    ':s BATCH -h',
  );
  chat.loadOlder('#c');
  chat.loadOlder('#c');
  const asked = peer.socket.heard();
  assert.equal(asked.length, 1);
  assert.match(asked[0], /CHATHISTORY BEFORE #c msgid=s0-8 50$/);
  peer.socket.say(':s BATCH +h chathistory #c', '@batch=h;msgid=s0-7 :bob!b@h PRIVMSG #c :seven', ':s BATCH -h');
  assert.deepEqual(
    items()
      .filter((item) => item.from)
      .map((item) => item.text),
    ['seven', 'eight', 'nine'],
  );
  chat.loadOlder('#c');
  peer.socket.heard();
  peer.socket.say(':s BATCH +h chathistory #c', ':s BATCH -h');
  chat.loadOlder('#c');
  assert.deepEqual(peer.socket.heard(), []);
});

test('a gap is marked and what is kept after it is loaded', () => {
  const { peer, chat, items } = inChannel();
  peer.socket.say('@msgid=s1-2 :bob!b@h PRIVMSG #c :before');
  peer.socket.drop();
  peer.pass(1_000);
  peer.socket.accept();
  const caps = 'batch labeled-response draft/chathistory chatroom.dev/resume';
  peer.socket.say(
    `:s CAP * LS :${caps}`,
    `:s CAP * ACK :${caps}`,
    ':s RESUME SUCCESS ann',
    ':s RESUME TOKEN T2',
    ':s RESUME GAP #c s1-80',
  );
  chat.select('*');
  peer.socket.say(
    ':s BATCH +r chatroom.dev/resume',
    ':s BATCH -r',
    ':ann!a@h JOIN #c',
    ':s 353 ann = #c :ann',
    ':s 366 ann #c :End',
  );
  assert.equal(chat.state.active, '*');
  assert.equal(peer.socket.heard().filter((line) => line.includes('CHATHISTORY LATEST #c')).length, 1);
  peer.socket.say(':s BATCH +h chathistory #c', '@batch=h;msgid=s1-80 :bob!b@h PRIVMSG #c :kept', ':s BATCH -h');
  const shown = items()
    .filter((item) => item.from || item.kind === 'gap')
    .map((item) => item.text ?? item.kind);
  assert.deepEqual(shown, ['before', 'gap', 'kept']);
  assert.equal(chat.state.buffers.get('#c').joined, true);
});

test('a gap of direct messages is marked in all of them, and looked into', () => {
  const { peer, chat, items } = inChannel();
  peer.socket.say('@msgid=s2-1 :bob!b@h PRIVMSG ann :psst');
  peer.socket.drop();
  peer.pass(1_000);
  peer.socket.accept();
  const caps = 'batch labeled-response draft/chathistory chatroom.dev/resume';
  peer.socket.say(`:s CAP * LS :${caps}`, `:s CAP * ACK :${caps}`, ':s RESUME SUCCESS ann', ':s RESUME TOKEN T2');
  peer.socket.say(':s RESUME GAP ann s2-80', ':s BATCH +r chatroom.dev/resume', ':s BATCH -r');
  assert.equal(items('bob').at(-1).kind, 'gap');
  assert.equal(items('*').at(-1).kind, 'gap');
  assert.ok(!items().some((item) => item.kind === 'gap'));
  const asked = peer.socket.heard().map((line) => line.replace(/^@\S+ /, ''));
  assert.ok(asked.includes('CHATHISTORY LATEST bob * 50') && asked.includes('NAMES #c'));
  peer.socket.say(':s 353 ann = #c :bob', ':s 366 ann #c :End');
  assert.equal(chat.state.buffers.get('#c').joined, false);
});

test('direct messages open with their history', () => {
  const { peer, chat, own } = inChannel();
  chat.submit('/msg Dora hi');
  assert.equal(chat.state.active, 'dora');
  const lines = peer.socket.heard();
  assert.deepEqual(
    lines.map((line) => parseLine(line).command),
    ['CHATHISTORY', 'PRIVMSG'],
  );
  assert.deepEqual(own('dora'), [['hi', 'pending']]);
});

test('leaving a channel closes it; leaving the room ends the session and forgets it', () => {
  const { peer, chat, memory, doors } = inChannel();
  chat.submit('/part so long');
  assert.ok(peer.socket.heard().some((line) => line.endsWith('PART #c :so long')));
  assert.equal(chat.state.buffers.has('#c'), false);
  chat.submit('/quit bye');
  assert.deepEqual(peer.socket.heard(), ['QUIT bye']);
  assert.equal(memory.resumable, false);
  assert.equal(doors.length, 1);
});

test('a refused nick is said at the door', () => {
  const { peer, chat, doors } = open(storageOf());
  chat.enter({ nick: 'bob', channels: ['#c'], password: '' });
  peer.socket.accept();
  peer.socket.say(':s CAP * LS :', ':s 433 * bob :in use');
  assert.deepEqual(doors, [{ field: 'nick', text: 'The nick bob is taken. Choose another.' }]);
  chat.enter({ nick: 'bobby', channels: ['#c'], password: '' });
  register(peer.socket, 'bobby', 'T1');
  assert.deepEqual(peer.socket.heard(), ['JOIN #c']);
});

test('open channels are remembered, and the answers of typed commands come where they were typed', () => {
  const { peer, chat, memory } = inChannel();
  peer.socket.say(':ann!a@h JOIN #d');
  assert.deepEqual(memory.record.channels, ['#c', '#d']);
  chat.select('#c');
  peer.socket.heard();
  chat.submit('/whois bob');
  const { label } = parseLine(peer.socket.heard()[0]).tags;
  chat.select('#d');
  peer.socket.say(`@label=${label} :s 401 ann bob :No such nick`);
  assert.match(chat.state.buffers.get('#c').items.at(-1).text, /bob is not here/);
});
