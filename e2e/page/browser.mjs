// Chromium, driven over its debugging pipe: no port, no dependency, and it ends when the pipe closes.

import fs from 'node:fs';
import path from 'node:path';

import { Page } from './page.mjs';
import { start } from './processes.mjs';
import { makeDirectory, removeDirectory } from './temporary.mjs';
import { bounded } from './wait.mjs';

const NAMES = ['chromium', 'chromium-browser', 'google-chrome'];
const FLAGS = [
  '--headless',
  '--no-sandbox',
  '--disable-gpu',
  '--disable-quic',
  '--no-first-run',
  '--disable-background-networking',
  '--disable-component-update',
  '--disable-sync',
  '--disable-dev-shm-usage',
  '--hide-scrollbars',
  '--lang=en-GB',
  '--remote-debugging-pipe',
];
const ANSWER_MS = 30_000;
const CLOSE_MS = 10_000;

/** The path of the browser of this machine. Throws an error that says how to get one. */
export function findChromium() {
  for (const name of NAMES) {
    for (const folder of (process.env.PATH ?? '').split(path.delimiter)) {
      const program = path.join(folder, name);
      if (isProgram(program)) return program;
    }
  }
  throw new Error(
    `no Chromium found: none of ${NAMES.join(', ')} is on the PATH. Install one: apt-get install --yes chromium`,
  );
}

function isProgram(file) {
  try {
    fs.accessSync(file, fs.constants.X_OK);
    return fs.statSync(file).isFile();
  } catch {
    return false;
  }
}

export class Browser {
  #process;
  #profile = makeDirectory('browser');
  #serial = 0;
  #unread = '';
  #waiting = new Map();
  #pages = new Map();
  #gone = null;

  static async launch(program) {
    const browser = new Browser(program);
    await browser.send('Browser.getVersion');
    return browser;
  }

  constructor(program) {
    this.#process = start(program, [...FLAGS, `--user-data-dir=${this.#profile}`, 'about:blank'], {
      group: true,
      stdio: ['ignore', 'ignore', 'ignore', 'pipe', 'pipe'],
    });
    const [, , , input, output] = this.#process.child.stdio;
    input.on('error', () => {});
    output.setEncoding('utf8').on('data', (text) => this.#hear(text));
    this.#process.ended.then(
      ({ code, signal }) => this.#lose(new Error(`the browser is gone (${signal ?? `exit code ${code}`})`)),
      (error) => this.#lose(error),
    );
  }

  /** Calls a method of the DevTools protocol, of the browser or of one page. */
  send(method, params = {}, sessionId = undefined) {
    if (this.#gone) return Promise.reject(this.#gone);
    this.#serial += 1;
    const id = this.#serial;
    const answer = new Promise((resolve, reject) => this.#waiting.set(id, { resolve, reject }));
    this.#process.child.stdio[3].write(`${JSON.stringify({ id, method, params, sessionId })}\0`);
    return bounded(`the browser answers ${method}`, answer, ANSWER_MS).finally(() => this.#waiting.delete(id));
  }

  /** A page of somebody with a browser of their own: nothing stored is shared with other pages. */
  async open(look = {}) {
    const { browserContextId } = await this.send('Target.createBrowserContext');
    const { targetId } = await this.send('Target.createTarget', {
      url: 'about:blank',
      browserContextId,
      newWindow: true,
    });
    const { sessionId } = await this.send('Target.attachToTarget', { targetId, flatten: true });
    const call = (method, params) => this.send(method, params, sessionId);
    const page = new Page(call, () => this.send('Target.disposeBrowserContext', { browserContextId }));
    this.#pages.set(sessionId, page);
    await page.prepare(look);
    return page;
  }

  async close() {
    await this.send('Browser.close').catch(() => {});
    await bounded('the browser ends', this.#process.ended, CLOSE_MS).catch(() => this.#process.kill('SIGKILL'));
    await this.#process.ended.catch(() => {});
    removeDirectory(this.#profile);
  }

  #hear(text) {
    const messages = (this.#unread + text).split('\0');
    this.#unread = messages.pop();
    for (const message of messages.map((each) => JSON.parse(each))) {
      const { id, method, params, sessionId, result, error } = message;
      if (id === undefined) this.#pages.get(sessionId)?.hear(method, params);
      else if (error)
        this.#waiting.get(id)?.reject(new Error(`${error.message}${error.data ? `: ${error.data}` : ''}`));
      else this.#waiting.get(id)?.resolve(result);
    }
  }

  #lose(error) {
    this.#gone = error;
    for (const { reject } of this.#waiting.values()) reject(error);
  }
}
