// All scenarios in the order in which they run. Each has a `name` for files, a `title` and `play(world)`.

import * as accessibility from './accessibility.mjs';
import * as history from './history.mjs';
import * as lostEcho from './lost-echo.mjs';
import * as phone from './phone.mjs';
import * as policy from './policy.mjs';
import * as receipts from './receipts.mjs';
import * as refusals from './refusals.mjs';
import * as reload from './reload.mjs';
import { killed, stopped } from './restart.mjs';
import * as talk from './talk.mjs';

export const scenarios = [
  talk,
  receipts,
  reload,
  stopped,
  killed,
  lostEcho,
  history,
  refusals,
  phone,
  accessibility,
  policy,
];
