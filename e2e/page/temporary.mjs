// Directories that are gone when the test is, whatever way it ends.

import fs from 'node:fs';
import os from 'node:os';
import path from 'node:path';

const kept = new Set();

/** A new directory of its own; `about` is part of its name. */
export function makeDirectory(about) {
  const directory = fs.mkdtempSync(path.join(os.tmpdir(), `page-test-${about}-`));
  kept.add(directory);
  return directory;
}

export function removeDirectory(directory) {
  fs.rmSync(directory, { recursive: true, force: true, maxRetries: 5, retryDelay: 100 });
  kept.delete(directory);
}

process.on('exit', () => kept.forEach(removeDirectory));
