import { request } from 'undici';

import { createProbe, type HealthProbe } from './check.js';
import { checkHost } from './loopback.js';

/** So much of a body is looked at. */
const BODY_BYTES = 64 * 1024;

export interface HttpProbeOptions {
  url: string;
  /** First and last status that count as well; 200 to 299 by default. A redirect is a status like others: it is not followed. */
  status?: [number, number];
  /** The first 64 KB of the body must contain this. */
  contains?: string;
  /** Also hosts other than loopback; false by default. */
  allowRemote?: boolean;
  /** 10,000 by default. */
  timeoutMs?: number;
}

/** @throws RangeError for an URL that is none, is not HTTP, or is not on this machine */
export function createHttpProbe(options: HttpProbeOptions): HealthProbe {
  const { status: [first, last] = [200, 299], contains, allowRemote = false } = options;
  const url = URL.canParse(options.url) ? new URL(options.url) : null;
  if (url === null || !/^https?:$/.test(url.protocol)) throw new RangeError(`${options.url} is no HTTP URL.`);
  checkHost(url.hostname, allowRemote);

  return createProbe(async (signal) => {
    // One connection a check: an open one would keep a server from ending in its grace.
    const { statusCode, body } = await request(url, { signal, reset: true });
    try {
      const detail = `${url.href} answered ${statusCode}`;
      if (statusCode < first || statusCode > last) return { ok: false, detail: `${detail}, not ${first} to ${last}` };
      if (contains === undefined) return { ok: true, detail };
      const found = (await firstBytes(body)).includes(contains);
      return { ok: found, detail: found ? detail : `${detail}, without "${contains}" in its body` };
    } finally {
      // What is not read is not wanted.
      body.on('error', () => {}).destroy();
    }
  }, options.timeoutMs);
}

async function firstBytes(body: AsyncIterable<Buffer>): Promise<string> {
  const chunks: Buffer[] = [];
  let bytes = 0;
  for await (const chunk of body) {
    chunks.push(chunk);
    bytes += chunk.length;
    if (bytes >= BODY_BYTES) break;
  }
  return Buffer.concat(chunks).subarray(0, BODY_BYTES).toString('utf8');
}
