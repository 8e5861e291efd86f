import type { FastifyRequest } from 'fastify';
import { RequestProblem } from './problem.js';

/** DNS rebinding and cross-site requests: only loopback names, and no page of another origin. */
export function refuseForeignPages(request: FastifyRequest): void {
  const name = (request.headers.host ?? '').replace(/:\d+$/, '');
  const isLoopback = ['localhost', '127.0.0.1', '[::1]'].includes(name);
  const origin = request.headers.origin;
  if (isLoopback && (origin === undefined || origin === `http://${request.headers.host ?? ''}`)) return;
  const remedy = 'call it as http://127.0.0.1';
  throw new RequestProblem(403, 'foreign-origin', 'this endpoint answers on loopback only', remedy);
}
