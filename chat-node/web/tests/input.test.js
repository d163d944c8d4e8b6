import assert from 'node:assert/strict';
import { test } from 'node:test';
import { readInput } from '../commands.js';
import { completions } from '../complete.js';
import { defaultSupport, parseLine } from '../irc.js';
import { explainMode, explainRefusal } from '../words.js';

const HERE = { target: '#c', kind: 'channel' };
const read = (line, place = HERE) => readInput(line, place, defaultSupport());
const sent = (line, place) => {
  const { do: what, message } = read(line, place);
  assert.equal(what, 'send', line);
  return [message.command, ...message.params];
};

test('text is said, a doubled slash is text', () => {
  assert.deepEqual(read('hello /all'), { do: 'say', target: '#c', kind: 'privmsg', text: 'hello /all', open: false });
  assert.equal(read('//etc').text, '/etc');
  assert.equal(read('/me waves').kind, 'action');
  assert.equal(read('hello', { target: '', kind: 'server' }).do, 'complain');
});

test('commands become lines, with the open channel where none is named', () => {
  assert.deepEqual(sent('/topic'), ['TOPIC', '#c']);
  assert.deepEqual(sent('/topic new words here'), ['TOPIC', '#c', 'new words here']);
  assert.deepEqual(sent('/topic #d x'), ['TOPIC', '#d', 'x']);
  assert.deepEqual(sent('/kick bob go away now'), ['KICK', '#c', 'bob', 'go away now']);
  assert.deepEqual(sent('/mode +o bob'), ['MODE', '#c', '+o', 'bob']);
  assert.deepEqual(sent('/mode #d'), ['MODE', '#d']);
  assert.deepEqual(sent('/invite bob'), ['INVITE', 'bob', '#c']);
  assert.deepEqual(sent('/nick ann'), ['NICK', 'ann']);
  assert.deepEqual(sent('/away gone fishing'), ['AWAY', 'gone fishing']);
  assert.deepEqual(sent('/away'), ['AWAY']);
  assert.deepEqual(sent('/whois', { target: 'bob', kind: 'direct' }), ['WHOIS', 'bob']);
  assert.deepEqual(sent('/quote privmsg #c :a b'), ['PRIVMSG', '#c', 'a b']);
  assert.deepEqual(sent('/raw MODE #c +b'), ['MODE', '#c', '+b']);
});

test('commands that the page itself carries out', () => {
  assert.deepEqual(read('/join rust,#go key'), { do: 'join', channels: ['#rust', '#go'], keys: ['key'] });
  assert.deepEqual(read('/part so long'), { do: 'part', target: '#c', reason: 'so long' });
  assert.deepEqual(read('/leave #d'), { do: 'part', target: '#d', reason: '' });
  assert.deepEqual(read('/msg bob hi there'), {
    do: 'say',
    target: 'bob',
    kind: 'privmsg',
    text: 'hi there',
    open: true,
  });
  assert.deepEqual(read('/query bob'), { do: 'open', target: 'bob' });
  assert.equal(read('/list').do, 'list');
  assert.equal(read('/names').target, '#c');
  assert.equal(read('/quit bye').reason, 'bye');
  assert.match(read('/help kick').lines[0], /^\/kick nick/);
});

test('a wrong command says the right form', () => {
  for (const line of ['/join', '/msg bob', '/nick two words', '/kick', '/me', '/quote', '/invite']) {
    assert.match(read(line).text, /Use it like this: \//, line);
  }
  assert.match(read('/tpoic x').text, /no command \/tpoic/);
  assert.match(read('/constructor').text, /no command/);
  assert.equal(read('/part', { target: 'bob', kind: 'direct' }).do, 'complain');
});

test('Tab completes nicks, channels and commands', () => {
  const known = { people: ['Bob', 'bella', 'carl'], channels: ['#rust', '#rust-embedded'] };
  const ways = (text, caret = text.length) => completions(text, caret, known).map((way) => way.text);
  assert.deepEqual(ways('b'), ['Bob: ', 'bella: ']);
  assert.deepEqual(ways('hi b'), ['hi Bob ', 'hi bella ']);
  assert.deepEqual(ways('hi @ca'), ['hi @carl ']);
  assert.deepEqual(ways('see #rust-'), ['see #rust-embedded ']);
  assert.deepEqual(ways('/to'), ['/topic ']);
  assert.deepEqual(completions('ca here', 2, known), [{ text: 'carl: here', caret: 5 }]);
  for (const nothing of ['', 'hi ', 'zzz']) assert.deepEqual(ways(nothing), [], nothing);
});

test('refusals say what to do, and which may pass by themselves', () => {
  const explain = (line) => explainRefusal(parseLine(line));
  assert.match(explain(':s 475 me #c :Cannot join').text, /\/join #c KEY/);
  assert.equal(explain(':s 441 me bob #c :not there').about, '#c');
  assert.equal(explain(':s FAIL PRIVMSG READ_ONLY 7 :no quorum').temporary, true);
  assert.equal(explain(':s FAIL * READ_ONLY :no quorum').temporary, true);
  assert.equal(explain(':s FAIL PRIVMSG DUPLICATE_WINDOW 7 :old').temporary, false);
  assert.equal(explain(':s FAIL JOIN SOMETHING_NEW #c :Because of that').text, 'JOIN: Because of that');
  assert.equal(explain(':s FAIL JOIN SOMETHING_NEW #c :Because of that').about, '#c');
  assert.equal(explain(':s 499 me #c :new in the future').text, 'new in the future');
  for (const fine of [':s 366 me #c :End', ':s 422 me :no motd', ':b PRIVMSG #c :x', ':s NOTE X Y :z'])
    assert.equal(explain(fine), null, fine);
});

test('modes read as words', () => {
  assert.equal(explainMode({ add: true, mode: 'o', param: 'bob', member: true }), 'made bob an operator');
  assert.equal(explainMode({ add: false, mode: 'v', param: 'bob', member: true }), 'took voice from bob');
  assert.equal(explainMode({ add: true, mode: 'b', param: '*!*@x', member: false }), 'banned *!*@x');
  assert.equal(
    explainMode({ add: true, mode: 'm', param: '', member: false }),
    'set +m (moderated: only people with voice may talk)',
  );
  assert.equal(explainMode({ add: false, mode: 'Z', param: '', member: false }), 'set -Z');
});
