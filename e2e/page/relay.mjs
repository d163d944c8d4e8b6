// A stretch of network between a page and the chat node, which can swallow what the node says and break off.

import net from 'node:net';

export class Relay {
  #server;
  #links = new Set();
  #silent = false;

  /** Listens on loopback and passes everything on to `port` there. */
  static async to(port) {
    const relay = new Relay(port);
    await new Promise((resolve, reject) => {
      relay.#server.on('error', reject).listen(0, '127.0.0.1', resolve);
    });
    return relay;
  }

  constructor(port) {
    this.#server = net.createServer((near) => this.#join(near, net.connect(port, '127.0.0.1')));
  }

  get address() {
    return `http://127.0.0.1:${this.#server.address().port}/`;
  }

  /** From now on what the node says is lost, until `cut`. */
  swallowAnswers() {
    this.#silent = true;
  }

  /** Breaks all connections off; new ones work. */
  cut() {
    this.#silent = false;
    for (const link of this.#links) link.end();
  }

  close() {
    this.#server.close();
    this.cut();
  }

  #join(near, far) {
    const link = {
      end: () => {
        near.destroy();
        far.destroy();
        this.#links.delete(link);
      },
    };
    this.#links.add(link);
    for (const socket of [near, far]) socket.on('error', link.end).on('close', link.end);
    near.on('data', (bytes) => far.write(bytes));
    far.on('data', (bytes) => {
      if (!this.#silent) near.write(bytes);
    });
  }
}
