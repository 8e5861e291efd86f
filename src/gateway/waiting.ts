import type { FastifyRequest } from 'fastify';
import { z } from 'zod';

export const waitQuery = z.object({
  wait: z
    .enum(['true', 'false'])
    .default('true')
    .describe('`false`: answer at once, with 202. So does the header `Prefer: respond-async`.'),
});

/** Whether the caller wants the answer once it is there (the default), or an answer now. */
export function waits({ query, headers }: FastifyRequest): boolean {
  const { wait } = waitQuery.parse(query);
  return wait === 'true' && !/\brespond-async\b/.test(String(headers['prefer'] ?? ''));
}
