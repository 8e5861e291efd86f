/**
 * The door for other programs: plain HTTP with JSON, on loopback. It reads from the agent's memory, and changes things by
 * starting operations only. What is started is named by the configuration (law 12).
 */
import fastify, { type FastifyInstance } from 'fastify';
import type { Agent } from '../agent/agent.js';
import { refuseForeignPages } from '../agent/foreignPages.js';
import { problemOf, RequestProblem } from '../agent/problem.js';
import { isToken } from '../agent/token.js';
import { SIMULATED_HEADER } from '../contracts/status.js';
import { addGpuRoutes } from './gpuRoutes.js';
import type { Operations } from './operations.js';

export interface GatewayOptions {
  agent: Agent;
  operations: Operations;
  token: string;
  /** Routes that programs on this machine may call without a token: `/gpu/*`. */
  openRoutes: readonly string[];
}

export function createGateway({ agent, operations, token, openRoutes }: GatewayOptions): FastifyInstance {
  const server = fastify({ forceCloseConnections: true });
  const isOpen = (url: string): boolean => openRoutes.some((route) => url.startsWith(route.slice(0, -1)));

  server.addHook('onRequest', async (request) => {
    refuseForeignPages(request);
    if (isOpen(request.url)) return;
    const given = /^Bearer (.+)$/.exec(request.headers.authorization ?? '')?.[1] ?? '';
    if (isToken(given, token)) return;
    const remedy = 'send `Authorization: Bearer <token>`, or open the route in the configuration (gateway.open_routes)';
    throw new RequestProblem(401, 'unauthorized', 'the token is missing or wrong', remedy);
  });
  if (agent.options.simulated) {
    server.addHook('onSend', async (_request, reply) => void reply.header(SIMULATED_HEADER, 'true'));
  }
  server.setErrorHandler((error, _request, reply) => {
    const { status, body } = problemOf(error);
    return reply.status(status).send({ error: body });
  });
  server.setNotFoundHandler(() => {
    throw new RequestProblem(404, 'not-found', 'there is no such route', 'see docs/architecture.md for the gateway');
  });
  addGpuRoutes(server, agent, operations);
  return server;
}
