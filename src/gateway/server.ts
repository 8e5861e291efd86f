/**
 * The door for other programs: plain HTTP with JSON, on loopback. It reads from the agent's memory, and changes things by
 * starting operations and leases only. What is started is named by the configuration (law 12).
 */
import fastify, { type FastifyInstance } from 'fastify';
import type { Agent } from '../agent/agent.js';
import { refuseForeignPages } from '../agent/foreignPages.js';
import { problemOf, RequestProblem } from '../agent/problem.js';
import { isToken } from '../agent/token.js';
import { SIMULATED_HEADER } from '../contracts/status.js';
import { version } from '../version.js';
import { addGpuRoutes } from './gpuRoutes.js';
import { addLeaseRoutes } from './leaseRoutes.js';
import { LeaseProblem, type Leases } from './leases.js';
import { openApi } from './openApi.js';
import type { Operations } from './operations.js';
import { collectRoutes, noSuchRoute } from './route.js';
import { openApiSchema } from './schemas.js';

export interface GatewayOptions {
  agent: Agent;
  operations: Operations;
  /** Throws a RequestProblem while Temporal does not answer. */
  leases: () => Leases;
  token: string;
  /** Routes that programs on this machine may call without a token: `/gpu/*`. */
  openRoutes: readonly string[];
}

const LEASE_STATUS: Record<LeaseProblem['code'], number> = {
  'lease-exists': 409,
  'no-such-lease': 404,
  'lease-not-held': 409,
  unavailable: 503,
};

export function createGateway({ agent, operations, leases, token, openRoutes }: GatewayOptions): FastifyInstance {
  const server = fastify({ forceCloseConnections: true });
  if (agent.options.simulated) {
    // Before all else, and on the raw answer: also on refusals and on streams (law 7).
    server.addHook('onRequest', async (_request, reply) => void reply.raw.setHeader(SIMULATED_HEADER, 'true'));
  }
  const routes = collectRoutes(server);
  const isOpen = (url: string): boolean => openRoutes.some((route) => url.startsWith(route.slice(0, -1)));

  server.addHook('onRequest', async (request, reply) => {
    refuseForeignPages(request);
    if (!isOpen(request.url)) requireToken(request.headers.authorization, token);
    // Before a body is read: what it is does not matter.
    if (!request.is404) return;
    const { allow, problem } = noSuchRoute(routes, request.url);
    if (allow.length > 0) reply.header('allow', allow.join(', '));
    throw problem;
  });
  server.setErrorHandler((error, _request, reply) => {
    if (error instanceof LeaseProblem) {
      const { code, message, remedy } = error;
      return reply.status(LEASE_STATUS[code]).send({ error: { code, message, remedy } });
    }
    const { status, body } = problemOf(error);
    return reply.status(status).send({ error: body });
  });
  addGpuRoutes(server, agent, operations);
  addLeaseRoutes(server, agent, leases);
  const describes = {
    summary: 'This document',
    answers: { 200: { description: 'OpenAPI 3.1.', schema: openApiSchema } },
  };
  server.get('/openapi.json', { config: { describes } }, () => openApi(routes, { version, isOpen }));
  return server;
}

function requireToken(header: string | undefined, token: string): void {
  const given = /^Bearer (.+)$/.exec(header ?? '')?.[1] ?? '';
  if (isToken(given, token)) return;
  const remedy = 'send `Authorization: Bearer <token>`, or open the route in the configuration (gateway.open_routes)';
  throw new RequestProblem(401, 'unauthorized', 'the token is missing or wrong', remedy);
}
