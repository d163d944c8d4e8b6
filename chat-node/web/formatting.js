// A message's text as styled pieces and links. Pure; the view turns the pieces into text nodes and elements.

const STYLES = { '\x02': 'bold', '\x1d': 'italic', '\x1f': 'underline', '\x1e': 'strike', '\x11': 'mono' };
const RESET = '\x0f';
const COLOUR = /^\x03(?:\d{1,2}(?:,\d{1,2})?)?/;
const HEX_COLOUR = /^\x04(?:[0-9a-fA-F]{6}(?:,[0-9a-fA-F]{6})?)?/;
const REVERSE = '\x16';
// Other control characters would be invisible or break the line; a person's text never needs them.
const CONTROL = /[\x00-\x08\x0a-\x1f\x7f]/;
const LINK = /\bhttps?:\/\/[^\s<>"'`\x00-\x1f]+/gi;

/** Pieces `{ text, styles: [...], href? }`. Colours are dropped: they are unreadable on one of the two themes. */
export function readFormatting(text) {
  const spans = [];
  let styles = new Set();
  let run = '';
  const close = () => {
    if (run !== '') spans.push({ text: run, styles: [...styles] });
    run = '';
  };
  for (let at = 0; at < text.length;) {
    const character = text[at];
    const style = STYLES[character];
    const colour = COLOUR.exec(text.slice(at, at + 6)) ?? HEX_COLOUR.exec(text.slice(at, at + 14));
    if (style) {
      close();
      styles = new Set(styles);
      if (!styles.delete(style)) styles.add(style);
      at += 1;
    } else if (character === RESET) {
      close();
      styles = new Set();
      at += 1;
    } else if (colour) {
      at += colour[0].length;
    } else {
      if (character !== REVERSE && !CONTROL.test(character)) run += character;
      at += 1;
    }
  }
  close();
  return spans.flatMap(splitLinks);
}

/** The text alone, without any formatting characters. */
export function plainText(text) {
  return readFormatting(text)
    .map((piece) => piece.text)
    .join('');
}

function splitLinks(span) {
  const pieces = [];
  let from = 0;
  for (const match of span.text.matchAll(LINK)) {
    const shown = withoutTrailingPunctuation(match[0]);
    const href = safeHref(shown);
    if (href === null) continue;
    if (match.index > from) pieces.push({ ...span, text: span.text.slice(from, match.index) });
    pieces.push({ ...span, text: shown, href });
    from = match.index + shown.length;
  }
  if (from < span.text.length) pieces.push({ ...span, text: span.text.slice(from) });
  return pieces;
}

/** A full stop or a closing bracket after a link belongs to the sentence, unless the bracket was opened inside. */
function withoutTrailingPunctuation(url) {
  let end = url.length;
  for (;;) {
    const last = url[end - 1];
    const body = url.slice(0, end);
    if (/[.,;:!?*_~]/.test(last)) end -= 1;
    else if (last === ')' && count(body, '(') < count(body, ')')) end -= 1;
    else if (last === ']' && count(body, '[') < count(body, ']')) end -= 1;
    else return body;
  }
}

function count(text, character) {
  return text.split(character).length - 1;
}

function safeHref(url) {
  try {
    const parsed = new URL(url);
    return parsed.protocol === 'http:' || parsed.protocol === 'https:' ? parsed.href : null;
  } catch {
    return null;
  }
}

/** True when the text names the nick as a word of its own. */
export function mentions(text, nick) {
  if (nick === '') return false;
  const escaped = nick.replace(/[\\^$.*+?()[\]{}|]/g, '\\$&');
  return new RegExp(`(^|[^\\p{L}\\p{N}_])${escaped}($|[^\\p{L}\\p{N}_])`, 'iu').test(plainText(text));
}
