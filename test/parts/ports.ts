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

/** A TCP port of loopback that nobody has at this moment. */
export async function freePort(): Promise<number> {
  for (let attempt = 1; attempt <= TRIES; attempt++) {
    const port = randomInt(FIRST, LAST);
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
