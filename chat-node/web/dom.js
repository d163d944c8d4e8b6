// Building elements. Text always becomes text nodes; nothing here reads markup.

const SVG = 'http://www.w3.org/2000/svg';

/** Outlines on a 24-unit grid, drawn for this page. */
const ICONS = {
  menu: 'M4 7h16M4 12h16M4 17h16',
  people:
    'M9 11a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7M2.5 20c0-3.6 2.9-6 6.5-6s6.5 2.4 6.5 6' +
    'M16 4.6a3.4 3.4 0 0 1 0 6M18 14.6c2.1.9 3.5 2.8 3.5 5.4',
  plus: 'M12 5v14M5 12h14',
  close: 'M6 6l12 12M18 6L6 18',
  send: 'M4 12l16-7-5 15-3.5-6.5z',
  check: 'M5 12.5l4.5 4.5L19 7.5',
  clock: 'M12 7v5l3 2M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18',
  alert: 'M12 8v5M12 16.5v.1M12 3.5l9.5 16.5h-19z',
  down: 'M12 5v14M6 13l6 6 6-6',
  search: 'M11 18a7 7 0 1 0 0-14 7 7 0 0 0 0 14M20 20l-4-4',
  leave: 'M14 4h5v16h-5M4 12h11M11 8l4 4-4 4',
};

/** An element with properties, attributes (`aria-…`, `data-…`, `role`), listeners (`onclick`) and children. */
export function h(name, properties = {}, ...children) {
  const element = document.createElement(name);
  for (const [key, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'class') element.className = value;
    else element.setAttribute(key, value === true ? '' : String(value));
  }
  element.append(...children.filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** A decorative icon; its control carries the name. */
export function icon(name) {
  const svg = document.createElementNS(SVG, 'svg');
  svg.setAttribute('viewBox', '0 0 24 24');
  svg.setAttribute('class', 'icon');
  svg.setAttribute('aria-hidden', 'true');
  const path = document.createElementNS(SVG, 'path');
  path.setAttribute('d', ICONS[name]);
  svg.append(path);
  return svg;
}

export function hidden(text) {
  return h('span', { class: 'sr-only' }, text);
}

/** Puts text into an element only when it differs, so that live regions stay quiet. */
export function setText(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/** One of a few colours for a nick, always the same one. */
export function tint(nick) {
  let sum = 7;
  for (const character of nick.toLowerCase()) sum = (sum * 31 + character.codePointAt(0)) % 9973;
  return `tint-${sum % 10}`;
}

/**
 * Makes the children of `parent` those of `wanted`: `[{ key, stamp }]`. An element is built anew only when its stamp
 * changed; `known` is the Map of the last time. Order is kept with as few moves as possible.
 */
export function reconcile(parent, known, wanted, build) {
  const keys = new Set(wanted.map((entry) => entry.key));
  for (const [key, { element }] of known) {
    if (keys.has(key)) continue;
    element.remove();
    known.delete(key);
  }
  let cursor = parent.firstElementChild;
  for (const entry of wanted) {
    let drawn = known.get(entry.key);
    if (drawn && drawn.stamp !== entry.stamp) {
      const element = build(entry);
      if (cursor === drawn.element) cursor = element;
      drawn.element.replaceWith(element);
      drawn = { element, stamp: entry.stamp };
      known.set(entry.key, drawn);
    } else if (!drawn) {
      drawn = { element: build(entry), stamp: entry.stamp };
      known.set(entry.key, drawn);
    }
    if (drawn.element === cursor) cursor = cursor.nextElementSibling;
    else parent.insertBefore(drawn.element, cursor);
  }
}
