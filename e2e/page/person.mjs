// A person at the chat page: what one can see there and do there. Only this module knows the page's elements.

import assert from 'node:assert/strict';

import { PATIENCE_MS, until } from './wait.mjs';

/** How long a page may take to come back by itself after an outage. */
const RETURN_MS = 60_000;

export class Person {
  constructor(page, nick) {
    this.page = page;
    this.nick = nick;
  }

  /** Opens the page and stands at the door. */
  async visit(address) {
    await this.page.go(address);
    await this.page.until('the door is open', () => !document.getElementById('door').hidden);
  }

  async fillDoor(channel) {
    await this.page.write('#nick', this.nick);
    await this.page.write('#channels', channel);
    await this.page.click('#enter-button');
  }

  /** Goes in through the door and waits until the channel is there. */
  async join(address, channel) {
    await this.visit(address);
    await this.fillDoor(channel);
    await this.online();
    await this.isIn(channel);
  }

  async isIn(channel) {
    await this.page.until(
      `${this.nick} is in ${channel}`,
      (nick, name) =>
        document.getElementById('talk-name').textContent === name &&
        [...document.querySelectorAll('.person')].some((person) => person.dataset.nick === nick),
      this.nick,
      channel,
    );
  }

  phase(phases, within = PATIENCE_MS) {
    return this.page.untilWithin(
      within,
      `${this.nick}’s connection is ${phases.join(' or ')}`,
      (wanted) => wanted.includes(document.getElementById('status')?.dataset.phase),
      phases,
    );
  }

  online() {
    return this.phase(['online'], RETURN_MS);
  }

  offline() {
    return this.phase(['waiting', 'connecting']);
  }

  /** Writes a line and sends it with the Enter key. */
  async say(text) {
    await this.enter(text);
    await this.page.until('the line is taken', () => document.getElementById('say').value === '');
  }

  /** The same, for what may not be taken. */
  async enter(text) {
    await this.page.write('#say', text);
    await this.page.press('Enter');
  }

  /** The messages of the open conversation from top to bottom: `{ text, state }`, with `state` for own ones. */
  messages() {
    return this.page.ask(() =>
      [...document.querySelectorAll('.row.message')].map((row) => ({
        text: row.querySelector('.text').textContent,
        state: row.dataset.state ?? '',
      })),
    );
  }

  async texts() {
    return (await this.messages()).map(({ text }) => text);
  }

  /** Waits until so many messages are shown as are expected, and compares them. */
  async shows(expected, when) {
    const enough = async () => (await this.texts()).length >= expected.length;
    const scene = async () => `shown: ${JSON.stringify(await this.texts())}`;
    await until(`${this.nick} sees ${expected.length} messages, ${when}`, enough, { scene });
    assert.deepEqual(await this.texts(), expected, `what ${this.nick} sees, ${when}`);
  }

  sees(text) {
    return this.page.until(
      `${this.nick} sees “${text}”`,
      (wanted) => [...document.querySelectorAll('.row.message .text')].some((each) => each.textContent === wanted),
      text,
    );
  }

  /** Waits until the own message stands in a state, with the sign that tells it. */
  message(text, state, sign) {
    return this.page.until(
      `“${text}” is ${state}, with the sign “${sign}”`,
      (wanted, its, label) =>
        [...document.querySelectorAll('.row.message.self')].some(
          (row) =>
            row.querySelector('.text').textContent === wanted &&
            row.dataset.state === its &&
            row.querySelector('.receipt')?.getAttribute('aria-label') === label,
        ),
      text,
      state,
      sign,
    );
  }

  /** Waits until nothing of one's own is still under way. */
  allAcknowledged() {
    return this.page.until(`everything ${this.nick} wrote is acknowledged`, () =>
      [...document.querySelectorAll('.row.message.self')].every((row) => row.dataset.state === 'acknowledged'),
    );
  }

  /** Waits for a text among the events, errors and notes of the conversation. */
  isTold(text) {
    return this.page.until(
      `${this.nick} reads “${text}”`,
      (wanted) => [...document.querySelectorAll('.row')].some((row) => row.textContent.includes(wanted)),
      text,
    );
  }

  /** Everything the open conversation shows. */
  everything() {
    return this.page.ask(() => document.getElementById('rows').innerText);
  }

  /** The nicks in the list of people, with their sign before them. */
  people() {
    return this.page.ask(() =>
      [...document.querySelectorAll('.person')]
        .map((person) => person.querySelector('.person-sign').textContent + person.dataset.nick)
        .sort(),
    );
  }

  hasPeople(count) {
    return this.page.until(
      `${this.nick} sees ${count} people`,
      (wanted) => document.querySelectorAll('.person').length === wanted,
      count,
    );
  }

  async openConversation(key) {
    await this.page.click(`.tab-name[data-key="${key}"]`);
    await this.page.until(
      `the conversation ${key} is open`,
      (wanted) => document.querySelector('.tab.current .tab-name')?.dataset.key === wanted,
      key,
    );
  }
}
