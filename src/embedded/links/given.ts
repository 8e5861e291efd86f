/** A server or a program that the user named. What is named is used; it never falls through to another. */
import { checkBinary } from '../binary.js';
import { EmbeddedServerError } from '../errors.js';
import type { Link } from '../findServer.js';

export const givenAddress = (address: string | undefined): Link => ({
  name: 'a given address',
  async try() {
    if (address === undefined || address === '') return { reason: 'none is given' };
    return { found: { kind: 'address', address } };
  },
});

export const givenBinary = (path: string | undefined): Link => ({
  name: 'a given program',
  async try(signal) {
    if (path === undefined) return { reason: 'none is given' };
    const binary = await checkBinary(path, signal);
    if (!('reason' in binary)) return { found: { kind: 'binary', ...binary } };
    throw new EmbeddedServerError(
      'no-server',
      `The configured Temporal program is not usable: ${binary.reason}.`,
      'Correct `temporal.binary` in the configuration, or take the line out.',
    );
  },
});
