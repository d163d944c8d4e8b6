// A plain IRC client over TCP, without any capability: the other kind of guest.

import net from 'node:net';

import { until } from './wait.mjs';

export class IrcClient {
  /** Everything the server said, line by line. */
  lines = [];
  #socket;
  #unread = '';
  #closed = false;

  /** Connects, registers and joins. */
  static async join(port, nick, channel) {
    const client = new IrcClient(port, nick);
    await client.hears(/ (376|422) /);
    client.send(`JOIN ${channel}`);
    await client.hears(/ 366 /);
    return client;
  }

  constructor(port, nick) {
    this.nick = nick;
    this.#socket = net.connect(port, '127.0.0.1');
    this.#socket.on('error', () => {});
    this.#socket.on('close', () => (this.#closed = true));
    this.#socket.setEncoding('utf8').on('data', (text) => this.#hear(text));
    this.send(`NICK ${nick}`);
    this.send(`USER ${nick} 0 * :${nick}`);
  }

  send(line) {
    this.#socket.write(`${line}\r\n`);
  }

  /** Waits for a line that matches. */
  hears(pattern) {
    const scene = async () =>
      `${this.#closed ? 'the connection is closed; ' : ''}heard last:\n${this.lines.slice(-12).join('\n')}`;
    return until(`${this.nick} hears ${pattern}`, () => this.lines.find((line) => pattern.test(line)), { scene });
  }

  count(pattern) {
    return this.lines.filter((line) => pattern.test(line)).length;
  }

  close() {
    this.#socket.destroy();
  }

  #hear(text) {
    const lines = (this.#unread + text).split('\r\n');
    this.#unread = lines.pop();
    for (const line of lines) {
      const ping = /^(?::\S+ )?PING (.*)$/.exec(line);
      if (ping) this.send(`PONG ${ping[1]}`);
      else this.lines.push(line);
    }
  }
}
