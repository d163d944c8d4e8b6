// The page's content security policy is in force, and the page keeps to it.

import assert from 'node:assert/strict';

import { until } from '../wait.mjs';

export const name = 'policy';
export const title = 'the content security policy is in force and kept';

export async function play(world) {
  const { headers } = await fetch(world.node.address, { signal: AbortSignal.timeout(10_000) });
  const policy = headers.get('content-security-policy') ?? '';
  assert.match(policy, /(^|; *)default-src 'none'/, 'nothing is allowed that is not named');
  assert.doesNotMatch(policy, /unsafe|\*|data:|blob:|https?:/, 'and only this server is named');

  const anna = await world.joined('anna', '#policy');
  await anna.say('all of this under the policy');
  await anna.allAcknowledged();
  assert.deepEqual(anna.page.complaints, [], 'the page keeps to the policy');

  // Both that it holds, and that a page which broke it would not go unnoticed by the other scenarios.
  await anna.page.ask(() => {
    const script = document.createElement('script');
    script.textContent = 'window.ranInline = true';
    document.body.append(script);
    const image = new Image();
    image.src = 'http://127.0.0.2/elsewhere.png';
    document.body.append(image);
  });
  const noticed = (directive) =>
    anna.page.complaints.some((each) => each.includes('policy') && each.includes(directive));
  for (const directive of ['script-src', 'img-src']) {
    await until(`a breach of ${directive} is noticed`, () => noticed(directive), {
      scene: async () => anna.page.complaints.join('\n'),
    });
  }
  assert.equal(await anna.page.ask(() => window.ranInline ?? false), false, 'an inline script does not run');
  anna.page.complaints = anna.page.complaints.filter((each) => !/policy/i.test(each));
}
