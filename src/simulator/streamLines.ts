import type { FastifyReply } from 'fastify';

/** Takes over the answer and returns a function that sends one JSON value a line; it stays open until the client leaves. */
export function streamLines(reply: FastifyReply): (value: object) => void {
  reply.hijack();
  reply.raw.writeHead(200, { 'content-type': 'application/x-ndjson' });
  return (value) => {
    reply.raw.write(`${JSON.stringify(value)}\n`);
  };
}
