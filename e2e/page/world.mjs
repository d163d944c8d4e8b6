// What one scenario has: a chat node, people at pages, guests over TCP, screenshots. It ends with the scenario.

import path from 'node:path';

import { ChatNode } from './chat-node.mjs';
import { IrcClient } from './irc-client.mjs';
import { Person } from './person.mjs';
import { Relay } from './relay.mjs';

export class World {
  #browser;
  #screenshots;
  #scenario;
  #people = [];
  #guests = [];
  #relays = [];

  constructor({ browser, program, screenshots, scenario }) {
    this.#browser = browser;
    this.#screenshots = screenshots;
    this.#scenario = scenario;
    this.node = new ChatNode(program);
  }

  /** Somebody with a page of their own, still outside. `look` is what `Page.prepare` takes. */
  async person(nick, look = {}) {
    const page = await this.#browser.open(look);
    const person = new Person(page, nick);
    this.#people.push(person);
    return person;
  }

  /** Somebody who has joined through the page. */
  async joined(nick, channel, look = {}) {
    const person = await this.person(nick, look);
    await person.join(this.node.address, channel);
    return person;
  }

  /** Somebody who has joined over TCP. */
  async guest(nick, channel) {
    const guest = await IrcClient.join(this.node.ircPort, nick, channel);
    this.#guests.push(guest);
    return guest;
  }

  /** A way to the node's page that can be broken. */
  async relay() {
    const relay = await Relay.to(this.node.webPort);
    this.#relays.push(relay);
    return relay;
  }

  /** Ends the node; from now on a page may fail to open its WebSocket. */
  outage(signal) {
    for (const { page } of this.#people) page.tolerateOutages();
    return this.node.stop(signal);
  }

  /** Keeps what a person sees, if the caller of the test asked for pictures. */
  async picture(person, name) {
    if (this.#screenshots) await person.page.screenshot(path.join(this.#screenshots, `${this.#scenario}-${name}.png`));
  }

  async pictureAll(name) {
    for (const person of this.#people) await this.picture(person, `${name}-${person.nick}`);
  }

  /** What the consoles of all pages said, each with whose it was. */
  complaints() {
    return this.#people.flatMap(({ nick, page }) => page.complaints.map((complaint) => `${nick}’s page: ${complaint}`));
  }

  async close() {
    for (const guest of this.#guests) guest.close();
    for (const relay of this.#relays) relay.close();
    for (const { page } of this.#people) await page.close().catch(() => {});
    await this.node.close();
  }
}
