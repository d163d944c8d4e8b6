import assert from 'node:assert/strict';
import { test } from 'node:test';
import {
  byteLength,
  defaultSupport,
  escapeTag,
  fold,
  formatLine,
  isChannel,
  memberRanks,
  parseLine,
  parseSource,
  readModes,
  readSupport,
  splitText,
  statusTarget,
  textRoom,
  unescapeTag,
} from '../irc.js';

test('a line is taken apart into tags, source, command and parameters', () => {
  const line = parseLine(
    '@time=2024-05-01T10:00:00.000Z;msgid=s1-7;+x :bob!b@host PRIVMSG #rust :hello there: you\r\n',
  );
  assert.deepEqual({ ...line.tags }, { time: '2024-05-01T10:00:00.000Z', msgid: 's1-7', '+x': '' });
  assert.equal(line.source, 'bob!b@host');
  assert.equal(line.command, 'PRIVMSG');
  assert.deepEqual(line.params, ['#rust', 'hello there: you']);
});

test('lines at the edges of the grammar', () => {
  assert.deepEqual(parseLine('ping').params, []);
  assert.equal(parseLine('ping').command, 'PING');
  assert.deepEqual(parseLine(':s  353  me =  #c  :').params, ['me', '=', '#c', '']);
  assert.deepEqual(parseLine('MODE #c +k a:b').params, ['#c', '+k', 'a:b']);
  assert.deepEqual(parseLine('TOPIC #c ::)').params, ['#c', ':)']);
  for (const empty of ['', '\r\n', '@a=b', '@a=b ', ':source', ':source '])
    assert.equal(parseLine(empty), null, JSON.stringify(empty));
});

test('a tag may have any name, also that of a property of every object', () => {
  const { tags } = parseLine('@__proto__=x;constructor=y PING');
  assert.equal(tags.constructor, 'y');
  assert.equal(Object.getPrototypeOf(tags), null);
  assert.equal(parseLine('PING').tags.constructor, undefined);
});

test('tag values survive escaping and unescaping', () => {
  for (const value of ['', 'plain', 'a;b c\\d', '\r\n', ';; \\\\ ', 'ü🎉', '\\s']) {
    const escaped = escapeTag(value);
    assert.doesNotMatch(escaped, /[; \r\n]/);
    assert.equal(unescapeTag(escaped), value);
  }
  assert.equal(unescapeTag('a\\bc\\'), 'abc');
});

test('formatting is the inverse of parsing', () => {
  const messages = [
    { tags: { label: 'm1', 'chatroom.dev/id': '4', empty: '' }, command: 'PRIVMSG', params: ['#c', 'two words'] },
    { tags: {}, command: 'TOPIC', params: ['#c', ''] },
    { tags: {}, command: 'PRIVMSG', params: ['bob', ':-)'] },
    { tags: { a: 'x; y\\' }, command: 'AWAY', params: [] },
  ];
  for (const message of messages) {
    const back = parseLine(formatLine(message));
    assert.deepEqual({ ...back.tags }, message.tags);
    assert.deepEqual([back.command, back.params], [message.command, message.params]);
  }
});

test('what cannot be one line is refused instead of becoming two', () => {
  assert.throws(() => formatLine({ command: 'PRIVMSG', params: ['#c', 'a\r\nQUIT'] }), /line break/);
  assert.throws(() => formatLine({ command: 'KICK', params: ['#c d', 'bob'] }), /last parameter/);
  assert.throws(() => formatLine({ command: 'JOIN', params: ['', 'x'] }), /last parameter/);
});

test('random lines never break the parser, and what it reads can be written again', () => {
  let seed = 12345;
  const random = (below) => {
    seed = (seed * 1103515245 + 12345) % 2147483648;
    return seed % below;
  };
  const alphabet = ['@', ':', ' ', ';', '=', '\\', 'a', 'B', '#', '1', '\u{1f389}', '\x01', 's', '\r'];
  for (let round = 0; round < 5_000; round += 1) {
    const line = Array.from({ length: random(24) }, () => alphabet[random(alphabet.length)]).join('');
    const parsed = parseLine(line);
    if (parsed && !parsed.params.some((param) => /[\r\n\0]/.test(param))) {
      const again = parseLine(formatLine({ ...parsed, tags: {} }));
      assert.deepEqual(again.params, parsed.params, JSON.stringify(line));
    }
  }
});

test('sources, names and targets', () => {
  assert.deepEqual(parseSource('bob!u@h'), { nick: 'bob', user: 'u', host: 'h' });
  assert.deepEqual(parseSource('irc.example'), { nick: 'irc.example', user: '', host: '' });
  assert.equal(fold('Bob[ÄX]'), 'bob[Äx]');
  const support = defaultSupport();
  assert.equal(isChannel('#c', support), true);
  assert.equal(isChannel('bob', support), false);
  assert.equal(isChannel('', support), false);
  assert.deepEqual(statusTarget('@#c', support), { sign: '@', target: '#c' });
  assert.deepEqual(statusTarget('@bob', support), { sign: '', target: '@bob' });
});

test('005 is read, also its escapes and its withdrawals', () => {
  const support = readSupport(defaultSupport(), ['NETWORK=My\\x20Net', 'PREFIX=(qaohv)~&@%+', 'EXCEPTS', '-STATUSMSG']);
  assert.equal(support.NETWORK, 'My Net');
  assert.equal(support.EXCEPTS, '');
  assert.equal(support.STATUSMSG, undefined);
  assert.deepEqual(
    memberRanks(support).map((rank) => rank.sign),
    ['~', '&', '@', '%', '+'],
  );
});

test('mode letters get the parameters that belong to them', () => {
  const changes = readModes(['+ov-l+kb', 'ann', 'bob', 'key', '*!*@bad'], defaultSupport());
  assert.deepEqual(
    changes.map(({ add, mode, param, member }) => [add, mode, param, member]),
    [
      [true, 'o', 'ann', true],
      [true, 'v', 'bob', true],
      [false, 'l', '', false],
      [true, 'k', 'key', false],
      [true, 'b', '*!*@bad', false],
    ],
  );
});

test('long text is split at spaces, by bytes, and never inside a character', () => {
  assert.deepEqual(splitText('one two three', 8), ['one two', 'three']);
  assert.deepEqual(splitText('aaaaaaaaaa', 4), ['aaaa', 'aaaa', 'aa']);
  assert.deepEqual(splitText('', 10), ['']);
  const emoji = '🎉'.repeat(50);
  const pieces = splitText(emoji, 30);
  assert.equal(pieces.join(''), emoji);
  assert.ok(pieces.every((piece) => byteLength(piece) <= 30 && !piece.includes('\ufffd')));
});

test('a message of the advertised room fits the line that others receive', () => {
  const support = { ...defaultSupport(), USERLEN: '10', HOSTLEN: '63' };
  const room = textRoom({ target: '#channel', nick: 'alice', support });
  const relayed = `:alice!${'u'.repeat(10)}@${'h'.repeat(63)} PRIVMSG #channel :${'x'.repeat(room)}\r\n`;
  assert.equal(byteLength(relayed), 512);
});
