/** What each route says of itself, so that the document of the API cannot say anything else. */
import type { FastifyInstance } from 'fastify';
import type { z } from 'zod';
import { RequestProblem } from '../agent/problem.js';

export interface AnswerDescription {
  description: string;
  /** One with a name: see `schemas.ts`. */
  schema: z.ZodType;
  /** It can be had as server-sent events, too. */
  events?: string;
}

export interface RouteDescription {
  summary: string;
  params?: z.ZodObject;
  query?: z.ZodObject;
  body?: z.ZodObject;
  /** By status; what every route may answer (400, 401, 403, 500) is added. */
  answers: Record<number, AnswerDescription>;
}

export interface Route extends RouteDescription {
  method: string;
  /** As fastify writes it: `/gpu/service/:name/start`. */
  path: string;
}

declare module 'fastify' {
  interface FastifyContextConfig {
    describes?: RouteDescription;
  }
}

/** The routes that are registered from now on. @throws for one without a description */
export function collectRoutes(server: FastifyInstance): readonly Route[] {
  const routes: Route[] = [];
  server.addHook('onRoute', ({ method, url, config }) => {
    for (const one of [method].flat()) {
      // fastify adds these to each GET.
      if (one === 'HEAD') continue;
      if (config?.describes === undefined) throw new Error(`the route ${one} ${url} has no description`);
      routes.push({ ...config.describes, method: one, path: url });
    }
  });
  return routes;
}

/** What is wrong with a request that no route takes: the path, or only the method. */
export function noSuchRoute(routes: readonly Route[], url: string): { allow: string[]; problem: RequestProblem } {
  const path = url.split('?', 1)[0] ?? '';
  const allow = routes.filter((route) => patternOf(route.path).test(path)).map(({ method }) => method);
  const withHead = allow.includes('GET') ? [...allow, 'HEAD'] : allow;
  if (allow.length > 0) {
    const methods = allow.join(' or ');
    const problem = new RequestProblem(405, 'wrong-method', `${path} takes ${methods}`, `send it as ${methods}`);
    return { allow: withHead, problem };
  }
  const remedy = 'GET /openapi.json lists the routes';
  return { allow: [], problem: new RequestProblem(404, 'not-found', 'there is no such route', remedy) };
}

const patternOf = (path: string): RegExp =>
  new RegExp(`^${path.replaceAll('.', '\\.').replaceAll(/:[A-Za-z]+/g, '[^/]+')}$`);
