import { randomInt } from 'node:crypto';
import { once } from 'node:events';
import { createServer } from 'node:net';

/**
 * Below the ports that Linux gives to outgoing connections (32768 and up): what listens here may be killed and started
 * anew, and no connection of another test has taken its port meanwhile.
 */
const FIRST = 15_000;
const LAST = 32_000;
const TRIES = 50;
/** Test files run side by side, a worker each: each takes from a part of its own. */
const PARTS = 4;
const PART = Number(process.env['VITEST_POOL_ID'] ?? 1) % PARTS;
const WIDTH = Math.floor((LAST - FIRST) / PARTS);
const given = new Set<number>();

/** A TCP port of loopback that nobody has at this moment, and no other test is given: what it is for may not run yet. */
export async function freePort(): Promise<number> {
  for (let attempt = 1; attempt <= TRIES; attempt++) {
    const port = FIRST + PART * WIDTH + randomInt(WIDTH);
    if (given.has(port)) continue;
    given.add(port);
    const server = createServer().listen(port, '127.0.0.1');
    try {
      await once(server, 'listening');
    } catch {
      // Somebody has it: the next one.
      continue;
    }
    server.close();
    await once(server, 'close');
    return port;
  }
  throw new Error(`None of ${TRIES} ports between ${FIRST} and ${LAST} was free.`);
}
