// Tests the chat page in a real Chromium against a real chat node.
//
//     node e2e/page/run.mjs --chat-node target/debug/chat-node [--screenshots DIR] [--only NAME]
//
// Needs Node 20 or newer and Chromium, nothing else. A scenario passes when it plays to its end and no console of its
// pages complained. Prints a line for each; the exit code is 0 when all passed, 1 when one failed or nothing could be
// tested, 2 for wrong arguments.

import fs from 'node:fs';
import path from 'node:path';
import { parseArgs } from 'node:util';

import { Browser, findChromium } from './browser.mjs';
import { scenarios } from './scenarios/index.mjs';
import { bounded } from './wait.mjs';
import { World } from './world.mjs';

const SCENARIO_MS = 180_000;
const USAGE = `Usage: node e2e/page/run.mjs --chat-node PATH [--screenshots DIR] [--only NAME]

  --chat-node PATH   the program to test
  --screenshots DIR  keep pictures of what the pages show; the directory is made if it is not there
  --only NAME        one scenario: ${scenarios.map(({ name }) => name).join(', ')}`;

function readArguments() {
  const { values } = parseArgs({
    options: {
      'chat-node': { type: 'string' },
      screenshots: { type: 'string' },
      only: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
    },
  });
  if (values.help) return { help: true };
  if (!values['chat-node']) throw new Error('--chat-node is missing');
  const program = path.resolve(values['chat-node']);
  if (!fs.existsSync(program)) throw new Error(`--chat-node: there is no ${program}`);
  const chosen = scenarios.filter(({ name }) => [undefined, name].includes(values.only));
  if (chosen.length === 0) throw new Error(`--only: there is no scenario ${values.only}`);
  return { program, screenshots: values.screenshots, chosen };
}

/** Plays one scenario; returns what was wrong with it, in words. */
async function play(scenario, { browser, program, screenshots }) {
  const world = new World({ browser, program, screenshots, scenario: scenario.name });
  const faults = [];
  try {
    await bounded(
      'the scenario ends',
      (async () => {
        await world.node.start();
        await scenario.play(world);
      })(),
      SCENARIO_MS,
    );
  } catch (error) {
    faults.push(error.stack, `the chat node’s log ends with:\n${world.node.log}`);
    await world.pictureAll('failed').catch(() => {});
  }
  faults.push(...world.complaints());
  await world.close();
  return faults;
}

async function run({ program, screenshots, chosen }) {
  if (screenshots) fs.mkdirSync(screenshots, { recursive: true });
  const browser = await Browser.launch(findChromium());
  let failed = 0;
  try {
    for (const scenario of chosen) {
      const began = Date.now();
      const faults = await play(scenario, { browser, program, screenshots });
      const seconds = ((Date.now() - began) / 1000).toFixed(1);
      console.log(`${faults.length === 0 ? 'ok    ' : 'FAILED'} ${scenario.title} (${seconds} s)`);
      for (const fault of faults) console.log(fault.replace(/^/gm, '         '));
      if (faults.length > 0) failed += 1;
    }
  } finally {
    await browser.close();
  }
  console.log(`${chosen.length - failed} passed, ${failed} failed`);
  return failed === 0 ? 0 : 1;
}

let wanted;
try {
  wanted = readArguments();
} catch (error) {
  console.error(`error: ${error.message}\n\n${USAGE}`);
  process.exit(2);
}
if (wanted.help) {
  console.log(USAGE);
  process.exit(0);
}
try {
  process.exit(await run(wanted));
} catch (error) {
  console.error(`error: ${error.message}`);
  process.exit(1);
}
