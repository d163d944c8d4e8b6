// Waiting for a state to come about: everything here ends, with words about what did not happen.

const LOOK_AGAIN_MS = 40;

/** Long enough for a busy machine; what works comes far sooner. */
export const PATIENCE_MS = 20_000;

/**
 * Looks until `look` answers with something true, and returns that. `what` names the state for the error;
 * `scene`, when given, tells how things stand instead.
 */
export async function until(what, look, { within = PATIENCE_MS, scene } = {}) {
  const end = Date.now() + within;
  for (;;) {
    const found = await look();
    if (found) return found;
    if (Date.now() > end) {
      const seen = scene ? await scene().catch((error) => `(cannot be told: ${error.message})`) : '';
      throw new Error(`not within ${within / 1000} s: ${what}${seen ? `\n${seen}` : ''}`);
    }
    await new Promise((resolve) => setTimeout(resolve, LOOK_AGAIN_MS));
  }
}

/** The promise's outcome, or an error that `what` did not end in time. */
export function bounded(what, promise, within = PATIENCE_MS) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${within / 1000} s: ${what}`)), within);
  });
  return Promise.race([promise, late]).finally(() => clearTimeout(timer));
}
