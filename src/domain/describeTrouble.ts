import type { Trouble } from '../contracts/residency.js';

/** In one line: the first of the reason, which may have those of a log below it. */
export function describeTrouble({ reason, nextTryAt }: Trouble): string {
  const [first = ''] = reason.split('\n');
  return nextTryAt === null ? first : `${first} (next try at ${nextTryAt}, if it is wanted)`;
}
