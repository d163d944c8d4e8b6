// A chat node under test: on loopback, on ports the system chose, with a data directory of its own.

import fs from 'node:fs';
import path from 'node:path';

import { start } from './processes.mjs';
import { makeDirectory, removeDirectory } from './temporary.mjs';
import { bounded, until } from './wait.mjs';

const STARTED_MS = 20_000;
const STOPPED_MS = 45_000;
const LOG_LINES = 30;

export class ChatNode {
  #program;
  #folder = makeDirectory('node');
  #process = null;
  #log = '';
  #addresses = { irc: '127.0.0.1:0', web: '127.0.0.1:0', admin: '127.0.0.1:0' };

  constructor(program) {
    this.#program = program;
  }

  /** Where the page is. */
  get address() {
    return `http://${this.#addresses.web}/`;
  }

  get webPort() {
    return portOf(this.#addresses.web);
  }

  get ircPort() {
    return portOf(this.#addresses.irc);
  }

  /** The end of what it logged. */
  get log() {
    return this.#log.split('\n').slice(-LOG_LINES).join('\n');
  }

  /** Starts it, the second time on the addresses of the first. */
  async start() {
    // For a moment another program's connection may stand on a port that the node left.
    await until('the chat node starts', () => this.#begin(), { within: STARTED_MS, scene: async () => this.log });
  }

  async #begin() {
    const flags = ['irc', 'web', 'admin'].flatMap((name) => [`--${name}`, this.#addresses[name]]);
    const from = this.#log.length;
    const node = start(this.#program, ['--data', path.join(this.#folder, 'data'), ...flags], {
      cwd: this.#folder,
      env: { ...process.env, NO_COLOR: '1' },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    for (const stream of [node.child.stdout, node.child.stderr]) {
      stream.setEncoding('utf8').on('data', (text) => (this.#log += text));
    }
    let over = false;
    node.ended.then(
      () => (over = true),
      () => (over = true),
    );
    const ready = await until(
      'the chat node is ready or ends',
      () => over || /^.*\bready\b.*\n/m.exec(this.#log.slice(from))?.[0],
      { within: STARTED_MS, scene: async () => this.log },
    );
    // What does not start the first time is not tried again.
    if (ready === true) {
      const { code, signal } = await node.ended;
      if (this.#process === null) throw new Error(`the chat node does not start: ${signal ?? `exit code ${code}`}`);
      return false;
    }
    for (const name of Object.keys(this.#addresses)) {
      const found = new RegExp(`\\b${name}="?([\\d.]+:\\d+)`).exec(ready);
      if (!found) throw new Error(`the chat node does not say where ${name} listens: ${ready}`);
      this.#addresses[name] = found[1];
    }
    this.#process = node;
    return true;
  }

  /** Signals it and waits for its end; returns `{ code, signal }`. */
  async stop(signal) {
    this.#process.kill(signal);
    return bounded(`the chat node ends after ${signal}`, this.#process.ended, STOPPED_MS);
  }

  /** Nothing it should do happens until `go`; its connections stay. */
  async halt() {
    this.#process.kill('SIGSTOP');
    // Only its first thread hears of the signal, and on a busy machine the others go on until it has run.
    await until('the chat node stands still', () => this.#threadStates().every((state) => state === 'T'));
  }

  go() {
    this.#process.kill('SIGCONT');
  }

  /** The letters that proc(5) gives for the states of threads. */
  #threadStates() {
    const tasks = `/proc/${this.#process.child.pid}/task`;
    const stats = fs.readdirSync(tasks).map((thread) => fs.readFileSync(path.join(tasks, thread, 'stat'), 'utf8'));
    return stats.map((stat) => stat.slice(stat.lastIndexOf(')') + 2)[0]);
  }

  async close() {
    if (this.#process) {
      this.#process.kill('SIGKILL');
      await this.#process.ended;
    }
    removeDirectory(this.#folder);
  }
}

function portOf(address) {
  return Number(address.split(':')[1]);
}
