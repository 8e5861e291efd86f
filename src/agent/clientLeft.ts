import type { FastifyReply } from 'fastify';

/** Aborted when the client leaves; once the answer is complete nobody listens any more. */
export function clientLeft(reply: FastifyReply): AbortSignal {
  const abort = new AbortController();
  reply.raw.once('close', () => abort.abort(new Error('the client left')));
  return abort.signal;
}
