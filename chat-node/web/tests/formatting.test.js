import assert from 'node:assert/strict';
import { test } from 'node:test';
import { mentions, plainText, readFormatting } from '../formatting.js';

const links = (text) =>
  readFormatting(text)
    .filter((piece) => piece.href)
    .map((piece) => piece.text);

test('only http and https become links', () => {
  assert.deepEqual(links('see https://a.example/x and http://b.example'), ['https://a.example/x', 'http://b.example']);
  assert.deepEqual(links('javascript:alert(1) data:text/html,x ftp://a.example file:///etc'), []);
  assert.deepEqual(links('http://[broken http://'), []);
});

test('punctuation around a link stays outside it', () => {
  assert.deepEqual(links('(see https://a.example/b).'), ['https://a.example/b']);
  assert.deepEqual(links('https://en.example/wiki/Raft_(algorithm), and'), [
    'https://en.example/wiki/Raft_(algorithm)',
  ]);
  assert.deepEqual(links('<https://a.example> "https://b.example"'), ['https://a.example', 'https://b.example']);
});

test('no character of the text is lost or gained', () => {
  for (const text of ['a <b>bold</b> & https://x.example/?a=1&b=2!', '', 'plain', 'https://x.example']) {
    assert.equal(
      readFormatting(text)
        .map((piece) => piece.text)
        .join(''),
      text,
    );
  }
});

test('styles are switched on and off, colours and control characters go away', () => {
  assert.deepEqual(readFormatting('a\x02b\x1dc\x02d\x0fe'), [
    { text: 'a', styles: [] },
    { text: 'b', styles: ['bold'] },
    { text: 'c', styles: ['bold', 'italic'] },
    { text: 'd', styles: ['italic'] },
    { text: 'e', styles: [] },
  ]);
  assert.equal(plainText('\x0304,12red\x03 plain \x04ff00ffpink\x04 \x16x\x07\x00y'), 'red plain pink xy');
  assert.equal(plainText('\x03 12'), ' 12');
});

test('a mention is the nick as a word, in any case', () => {
  assert.equal(mentions('Anna: hi', 'anna'), true);
  assert.equal(mentions('ask @anna, please', 'anna'), true);
  assert.equal(mentions('hanna and annabel', 'anna'), false);
  assert.equal(mentions('hey [x]y', '[x]y'), true);
  assert.equal(mentions('anything', ''), false);
  assert.equal(mentions('\x02an\x02na', 'anna'), true);
});
