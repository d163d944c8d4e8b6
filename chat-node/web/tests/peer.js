// A scripted server for the tests of connection and client: sockets, timers and time in the test's hand.

import { parseLine } from '../irc.js';

export class Peer {
  sockets = [];
  time = Date.parse('2024-05-01T10:00:00Z');
  #timers = [];
  #serial = 0;

  outside(emit) {
    return {
      open: () => this.#open(),
      now: () => this.time,
      random: () => 0.5,
      setTimeout: (act, delay) => this.#setTimeout(act, delay),
      clearTimeout: (id) => {
        this.#timers = this.#timers.filter((timer) => timer.id !== id);
      },
      emit,
    };
  }

  /** The newest connection. */
  get socket() {
    return this.sockets.at(-1);
  }

  /** Lets time pass; what falls due happens in order. */
  pass(milliseconds) {
    const until = this.time + milliseconds;
    for (;;) {
      const next = this.#timers.filter((timer) => timer.at <= until).sort((a, b) => a.at - b.at || a.id - b.id)[0];
      if (!next) break;
      this.#timers = this.#timers.filter((timer) => timer !== next);
      this.time = next.at;
      next.act();
    }
    this.time = until;
  }

  #setTimeout(act, delay) {
    this.#serial += 1;
    this.#timers.push({ id: this.#serial, at: this.time + delay, act });
    return this.#serial;
  }

  #open() {
    const socket = {
      readyState: 0,
      written: [],
      send(line) {
        socket.written.push(line);
      },
      close() {
        socket.readyState = 3;
      },
      /** The server's side: */
      accept() {
        socket.readyState = 1;
        socket.onopen();
      },
      say(...lines) {
        for (const line of lines) socket.onmessage({ data: line });
      },
      drop(code = 1006) {
        socket.readyState = 3;
        socket.onclose({ code, reason: '' });
      },
      /** What was written since the last look. */
      heard() {
        return socket.written.splice(0);
      },
      heardCommands() {
        return socket.heard().map((line) => parseLine(line).command);
      },
    };
    this.sockets.push(socket);
    return socket;
  }
}

const CAPS =
  'message-tags server-time batch echo-message labeled-response draft/chathistory chatroom.dev/id chatroom.dev/resume';

/** Plays the server's part of a registration, up to the token. */
export function register(socket, nick, token) {
  socket.accept();
  socket.say(`:s CAP * LS :${CAPS}`, `:s CAP * ACK :${CAPS}`);
  const written = socket.heard();
  socket.say(`:s 001 ${nick} :Welcome`, `:s 422 ${nick} :No MOTD`, `:s RESUME TOKEN ${token}`);
  return written;
}

/** Plays the server's part of a resume; `missed` are lines of the batch, without their batch tag. */
export function resume(socket, nick, token, missed = []) {
  socket.accept();
  socket.say(`:s CAP * LS :${CAPS}`, `:s CAP * ACK :${CAPS}`);
  const written = socket.heard();
  socket.say(`:s RESUME SUCCESS ${nick}`, `:s RESUME TOKEN ${token}`, ':s BATCH +r chatroom.dev/resume');
  socket.say(...missed.map((line) => line.replace(/^@/, '@batch=r;')), ':s BATCH -r', ':s PONG s :resumed');
  return written;
}
