// One page in the browser: looks at it, acts in it as a person would, and notes every complaint of the console.

import fs from 'node:fs';

import { bounded, until } from './wait.mjs';

const LOAD_MS = 30_000;
const KEYS = { Enter: 13, Escape: 27, Tab: 9 };
const CONTROL = 2;
const FAILED_WEBSOCKET = /^WebSocket connection to '[^']*' failed/;

export class Page {
  /** What was wrong without anybody asking: errors and warnings of the console, exceptions, broken policies. */
  complaints = [];
  #call;
  #dispose;
  #listeners = new Map();
  #outages = false;

  constructor(call, dispose) {
    this.#call = call;
    this.#dispose = dispose;
  }

  /** Sizes in CSS pixels. Motion is off, so that what is clicked stands still. */
  async prepare({ width = 1280, height = 800, phone = false, dark = false }) {
    const metrics = { width, height, deviceScaleFactor: phone ? 2 : 1, mobile: phone };
    const features = [
      { name: 'prefers-color-scheme', value: dark ? 'dark' : 'light' },
      { name: 'prefers-reduced-motion', value: 'reduce' },
    ];
    await Promise.all([
      this.#call('Page.enable'),
      this.#call('Runtime.enable'),
      this.#call('Log.enable'),
      this.#call('Audits.enable'),
      this.#call('Emulation.setDeviceMetricsOverride', metrics),
      this.#call('Emulation.setTouchEmulationEnabled', { enabled: phone }),
      this.#call('Emulation.setEmulatedMedia', { features }),
      this.#call('Emulation.setFocusEmulationEnabled', { enabled: true }),
    ]);
  }

  call(method, params) {
    return this.#call(method, params);
  }

  /** From now on the server may be away: a WebSocket that cannot be opened is no complaint. */
  tolerateOutages() {
    this.#outages = true;
  }

  hear(method, params) {
    const complaint = readComplaint(method, params);
    if (complaint && !(this.#outages && FAILED_WEBSOCKET.test(complaint))) this.complaints.push(complaint);
    this.#listeners.get(method)?.forEach((tell) => tell(params));
    this.#listeners.delete(method);
  }

  /** Runs a function in the page, with arguments that JSON can hold, and returns its result. */
  async ask(act, ...args) {
    const expression = `(${act})(...${JSON.stringify(args)})`;
    const { result, exceptionDetails: failed } = await this.#call('Runtime.evaluate', {
      expression,
      awaitPromise: true,
      returnByValue: true,
    });
    if (failed) throw new Error(failed.exception?.description ?? failed.text);
    return result.value;
  }

  /** Waits until the function answers with something true in the page. */
  until(what, act, ...args) {
    return this.untilWithin(undefined, what, act, ...args);
  }

  untilWithin(within, what, act, ...args) {
    const scene = () => this.ask(() => `the page shows: ${document.body.innerText.slice(-1500)}`);
    return until(what, () => this.ask(act, ...args), { within, scene });
  }

  go(address) {
    return this.#loaded(() => this.#call('Page.navigate', { url: address }));
  }

  reload() {
    return this.#loaded(() => this.#call('Page.reload'));
  }

  async #loaded(act) {
    const event = new Promise((resolve) => this.#listen('Page.loadEventFired', resolve));
    const answer = await act();
    if (answer.errorText) throw new Error(`the page cannot be loaded: ${answer.errorText}`);
    await bounded('the page is loaded', event, LOAD_MS);
  }

  #listen(method, tell) {
    this.#listeners.set(method, [...(this.#listeners.get(method) ?? []), tell]);
  }

  /** Clicks with the mouse on what is really there: something that is covered or outside is never reached. */
  async click(selector) {
    const { x, y } = await this.until(`“${selector}” can be clicked`, placeToClick, selector);
    const mouse = (type) =>
      this.#call('Input.dispatchMouseEvent', { type, x, y, button: 'left', buttons: 1, clickCount: 1 });
    await mouse('mousePressed');
    await mouse('mouseReleased');
  }

  /** Turns the mouse wheel over an element; up is negative. */
  async wheel(selector, deltaY) {
    const { x, y } = await this.until(`“${selector}” is under the mouse`, placeToClick, selector);
    await this.#call('Input.dispatchMouseEvent', { type: 'mouseWheel', x, y, deltaX: 0, deltaY });
  }

  /** Writes into a field in place of what it holds. */
  async write(selector, text) {
    await this.click(selector);
    await this.until(
      `“${selector}” has the focus`,
      (s) => document.activeElement === document.querySelector(s),
      selector,
    );
    await this.ask((s) => document.querySelector(s).select(), selector);
    await this.#call('Input.insertText', { text });
  }

  /** Presses a key: `Enter`, `Escape`, or a letter together with Ctrl. */
  async press(key) {
    const named = KEYS[key];
    const event = {
      key,
      code: named ? key : `Key${key.toUpperCase()}`,
      windowsVirtualKeyCode: named ?? key.toUpperCase().charCodeAt(0),
      modifiers: named ? 0 : CONTROL,
      text: key === 'Enter' ? '\r' : undefined,
    };
    await this.#call('Input.dispatchKeyEvent', { type: event.text ? 'keyDown' : 'rawKeyDown', ...event });
    await this.#call('Input.dispatchKeyEvent', { type: 'keyUp', ...event, text: undefined });
  }

  async screenshot(file) {
    const { data } = await this.#call('Page.captureScreenshot', { format: 'png' });
    fs.writeFileSync(file, Buffer.from(data, 'base64'));
  }

  close() {
    return this.#dispose();
  }
}

/** Runs in the page: the middle of the element, once that is where a click on it would land. */
function placeToClick(selector) {
  const element = document.querySelector(selector);
  if (!element || element.disabled) return null;
  element.scrollIntoView({ block: 'nearest', behavior: 'instant' });
  const { left, top, width, height } = element.getBoundingClientRect();
  const [x, y] = [left + width / 2, top + height / 2];
  return width > 0 && element.contains(document.elementFromPoint(x, y)) ? { x, y } : null;
}

function readComplaint(method, params) {
  switch (method) {
    case 'Runtime.exceptionThrown': {
      const { exception, text } = params.exceptionDetails;
      return `exception: ${exception?.description ?? text}`;
    }
    case 'Runtime.consoleAPICalled':
      if (!['error', 'warning', 'assert'].includes(params.type)) return '';
      return `console.${params.type}: ${params.args.map(({ value, description }) => value ?? description).join(' ')}`;
    case 'Log.entryAdded': {
      const { level, text, url } = params.entry;
      if (level !== 'error' && level !== 'warning') return '';
      return url && !text.includes(url) ? `${text} (${url})` : text;
    }
    case 'Audits.issueAdded': {
      const { code, details } = params.issue;
      if (code !== 'ContentSecurityPolicyIssue') return '';
      const { violatedDirective, blockedURL = 'inline' } = details.contentSecurityPolicyIssueDetails;
      return `against the content security policy: ${violatedDirective} (${blockedURL})`;
    }
    default:
      return '';
  }
}
