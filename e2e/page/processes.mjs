// The processes the test starts. Whatever way it ends, they end with it.

import { spawn } from 'node:child_process';

const running = new Set();

/**
 * Starts a program. With `group` it leads a process group of its own, which ends as a whole. The result has `child`,
 * `ended` (a promise of `{ code, signal }`) and `kill(signal)`.
 */
export function start(program, args, { group = false, ...options }) {
  const child = spawn(program, args, { ...options, detached: group });
  const started = {
    child,
    kill: (signal) => {
      // Once it has ended its id may be another's.
      if (running.has(started)) signalTo(child.pid, group, signal);
    },
    ended: new Promise((resolve, reject) => {
      child.on('error', (error) => reject(new Error(`${program} cannot be started: ${error.message}`)));
      child.on('exit', (code, signal) => {
        // Of a group some may be left when its leader is gone.
        if (group) signalTo(child.pid, group, 'SIGKILL');
        running.delete(started);
        resolve({ code, signal });
      });
    }),
  };
  // Whoever waits hears of it; nobody may be waiting.
  started.ended.catch(() => {});
  if (child.pid !== undefined) running.add(started);
  return started;
}

function signalTo(pid, group, signal) {
  try {
    process.kill(group ? -pid : pid, signal);
  } catch (error) {
    if (error.code !== 'ESRCH') throw error;
  }
}

process.on('exit', () => running.forEach(({ kill }) => kill('SIGKILL')));
for (const [signal, code] of [
  ['SIGINT', 130],
  ['SIGTERM', 143],
  ['SIGHUP', 129],
]) {
  process.on(signal, () => process.exit(code));
}
