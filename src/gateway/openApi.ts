/** The OpenAPI document, made of what the routes say of themselves. */
import { z } from 'zod';
import type { AnswerDescription, Route } from './route.js';
import { named, problemSchema } from './schemas.js';

const DIALECT = 'https://json-schema.org/draft/2020-12/schema';

export interface OpenApiOptions {
  version: string;
  /** Whether a path may be called without a token. */
  isOpen: (path: string) => boolean;
}

export function openApi(routes: readonly Route[], { version, isOpen }: OpenApiOptions): object {
  const paths: Record<string, Record<string, object>> = {};
  for (const route of routes) {
    const path = route.path.replaceAll(/:([A-Za-z]+)/g, '{$1}');
    paths[path] = { ...paths[path], [route.method.toLowerCase()]: operationOf(route, isOpen(route.path)) };
  }
  return {
    openapi: '3.1.0',
    info: {
      title: 'vramflow',
      version,
      summary: 'Who holds the GPU: status, phases, services and leases.',
      license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
    },
    jsonSchemaDialect: DIALECT,
    paths,
    components: {
      schemas: namedSchemas(),
      securitySchemes: { token: { type: 'http', scheme: 'bearer', description: "What the agent's token file says." } },
    },
  };
}

function operationOf(route: Route, isOpen: boolean): object {
  const { summary, params, query, body } = route;
  const parameters = [...parametersOf('path', params), ...parametersOf('query', query)];
  return {
    operationId: operationId(route),
    summary,
    ...(parameters.length === 0 ? {} : { parameters }),
    ...(body === undefined ? {} : { requestBody: bodyOf(body) }),
    responses: responsesOf(route, isOpen),
    // An empty requirement: it is no must.
    security: isOpen ? [{ token: [] }, {}] : [{ token: [] }],
  };
}

/** `POST /gpu/service/:name/start` → `postGpuServiceNameStart`. */
const operationId = ({ method, path }: Route): string =>
  method.toLowerCase() + path.replaceAll(/[^A-Za-z]+([A-Za-z])/g, (_, letter: string) => letter.toUpperCase());

function parametersOf(place: 'path' | 'query', schema: z.ZodObject | undefined): object[] {
  return Object.entries(schema?.shape ?? {}).map(([name, one]) => {
    const { description, ...rest } = inputSchema(one as z.ZodType);
    const required = place === 'path' || !(one as z.ZodType).safeParse(undefined).success;
    return { name, in: place, required, ...(description === undefined ? {} : { description }), schema: rest };
  });
}

const bodyOf = (schema: z.ZodObject): object => ({
  required: !schema.safeParse({}).success,
  content: { 'application/json': { schema: inputSchema(schema) } },
});

function responsesOf({ method, params, query, body, answers }: Route, isOpen: boolean): Record<string, object> {
  const takesInput = [params, query, body].some((schema) => schema !== undefined);
  const problem = (description: string): AnswerDescription => ({ description, schema: problemSchema });
  const all: Record<number, AnswerDescription> = {
    ...answers,
    ...(takesInput ? { 400: problem('The request is not well formed; the error says where.') } : {}),
    ...(isOpen ? {} : { 401: problem('The token is missing or wrong.') }),
    403: problem('The call comes from another site, or by a name that is not of loopback.'),
    ...(method === 'POST' ? { 415: problem('The body is of another type than JSON.') } : {}),
    500: problem("An error of vramflow's own."),
  };
  return Object.fromEntries(Object.entries(all).map(([status, answer]) => [status, responseOf(answer)]));
}

function responseOf({ description, schema, events }: AnswerDescription): object {
  const json = { 'application/json': { schema: referenceTo(schema) } };
  const streamed =
    events === undefined ? {} : { 'text/event-stream': { schema: { type: 'string', description: events } } };
  return { description, content: { ...json, ...streamed } };
}

function referenceTo(schema: z.ZodType): object {
  const id = named.get(schema)?.id;
  if (id === undefined) throw new Error('an answer has a schema without a name: give it one in schemas.ts');
  return { $ref: uriOf(id) };
}

const uriOf = (id: string): string => `#/components/schemas/${id}`;

function namedSchemas(): Record<string, object> {
  const { schemas } = z.toJSONSchema(named, { uri: uriOf });
  return Object.fromEntries(Object.entries(schemas).map(([id, schema]) => [id, part(schema)]));
}

function inputSchema(schema: z.ZodType): { description?: string; [key: string]: unknown } {
  return part(z.toJSONSchema(schema, { io: 'input' }));
}

/** Of a whole document: no name and no dialect of its own. */
function part({ $id: _id, $schema: _schema, ...schema }: z.core.JSONSchema.BaseSchema): {
  description?: string;
  [key: string]: unknown;
} {
  return schema;
}
