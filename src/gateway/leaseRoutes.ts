/** P7: leases for programs that ask over HTTP; the same as `vramflow lease …`. */
import { randomUUID } from 'node:crypto';
import type { FastifyInstance } from 'fastify';
import { z } from 'zod';
import type { Agent } from '../agent/agent.js';
import { clientLeft } from '../agent/clientLeft.js';
import { RequestProblem } from '../agent/problem.js';
import { LEASE_LIMITS, type LeaseRequest, type LeaseState } from '../contracts/lease.js';
import { CPU } from '../contracts/names.js';
import type { Leases } from './leases.js';
import type { RouteDescription } from './route.js';
import {
  type LeaseAnswer,
  leaseAnswerSchema,
  leaseRefusalSchema,
  leaseReleasedSchema,
  leasesSchema,
  problemSchema,
} from './schemas.js';
import { waitQuery, waits } from './waiting.js';

const { id: idPattern, mb, gpus, priority, ttlSeconds, pid } = LEASE_LIMITS;
const whole = ({ least, most }: { least: number; most: number }) => z.int().min(least).max(most);

const id = z.string().regex(idPattern, 'letters, digits, dots and dashes');
const ttl = whole(ttlSeconds).default(ttlSeconds.default);

const acquireFields = z.strictObject({
  mb: whole(mb).optional().describe('MB of VRAM on each of its GPUs; without it whole ones.'),
  gpus: whole(gpus).optional().describe('On so many GPUs, whichever: on all of them, or it waits; default 1.'),
  devices: z
    .array(z.string().min(1))
    .min(gpus.least)
    .max(gpus.most)
    .optional()
    .describe('On exactly these GPUs, by their UUIDs, in place of `gpus`.'),
  id: id.optional().describe('Its name; by default a new one.'),
  holder: z.string().min(1).max(200).default('an HTTP request').describe('Who has it, for people.'),
  priority: whole(priority).default(priority.default).describe('Higher wins, as of services.'),
  ttl_seconds: ttl.describe('It ends by itself so long after its grant or last renewal.'),
  pid: whole(pid).optional().describe('The process that will use it: what it holds is then not counted twice.'),
  wait: z.boolean().default(true).describe('`false`: answer at once, with 202 while it waits in line.'),
});
const acquireBody = acquireFields.refine(({ gpus, devices }) => gpus === undefined || devices === undefined, {
  error: '`gpus` and `devices` exclude each other',
});
const renewBody = z.strictObject({ ttl_seconds: ttl.describe('From now on.') });
const leaseParams = z.object({ id: id.describe("The lease's id.") });

const noSuchLease = { description: 'There is no such lease (any more).', schema: problemSchema };
const noTemporal = { description: 'Temporal does not answer yet.', schema: problemSchema };

const describes: Record<'acquire' | 'look' | 'renew' | 'release' | 'list', RouteDescription> = {
  acquire: {
    summary: 'Ask for VRAM, or whole GPUs, and wait until it is held; who leaves meanwhile takes the request back',
    query: waitQuery,
    body: acquireBody,
    answers: {
      200: { description: 'It is held.', schema: leaseAnswerSchema },
      202: { description: 'It waits in line.', schema: leaseAnswerSchema },
      404: { description: 'There is no such GPU.', schema: problemSchema },
      409: { description: 'It can never be had, or its id is taken.', schema: leaseRefusalSchema },
      503: noTemporal,
    },
  },
  look: {
    summary: 'One lease, also one that has ended',
    params: leaseParams,
    answers: {
      200: { description: 'As it is now.', schema: leaseAnswerSchema },
      404: noSuchLease,
      503: noTemporal,
    },
  },
  renew: {
    summary: 'Hold a lease longer',
    params: leaseParams,
    body: renewBody,
    answers: {
      200: { description: 'It is renewed.', schema: leaseAnswerSchema },
      404: noSuchLease,
      409: { description: 'It is not held any more.', schema: leaseRefusalSchema },
      503: noTemporal,
    },
  },
  release: {
    summary: 'Give a lease back',
    params: leaseParams,
    answers: {
      200: { description: 'Its end is under way.', schema: leaseReleasedSchema },
      404: noSuchLease,
      503: noTemporal,
    },
  },
  list: {
    summary: 'The leases that are held, and those that wait',
    answers: { 200: { description: 'As they are now.', schema: leasesSchema }, 503: noTemporal },
  },
};

/** @param leases throws while Temporal does not answer */
export function addLeaseRoutes(server: FastifyInstance, agent: Agent, leases: () => Leases): void {
  server.post('/gpu/lease', { config: { describes: describes.acquire } }, async (request, reply) => {
    const body = acquireBody.parse(request.body ?? {});
    const asked = requestOf(body, agent);
    const isAwaited = body.wait && waits(request);
    const here = leases();
    // From now on: one who leaves before it is begun takes it back, too.
    const signal = clientLeft(reply);
    await here.start(asked);
    const state = isAwaited ? await here.settled(asked.id, { signal }) : await here.state(asked.id);
    const lease = answerOf(state);
    if (state.state === 'ended') {
      const message = state.reason ?? 'it ended at once';
      const error = { code: 'lease-ended', message, remedy: 'ask for less, or for another GPU' };
      return reply.status(409).send({ error, lease });
    }
    return reply.status(state.state === 'queued' ? 202 : 200).send(lease);
  });
  server.get('/gpu/lease/:id', { config: { describes: describes.look } }, async ({ params }) =>
    answerOf(await leases().state(leaseParams.parse(params).id)),
  );
  server.post('/gpu/lease/:id/renew', { config: { describes: describes.renew } }, async ({ params, body }) => {
    const { ttl_seconds: seconds } = renewBody.parse(body ?? {});
    return answerOf(await leases().renew(leaseParams.parse(params).id, seconds));
  });
  server.delete('/gpu/lease/:id', { config: { describes: describes.release } }, async ({ params }) => {
    const { id: lease } = leaseParams.parse(params);
    await leases().release(lease);
    return { id: lease, released: true };
  });
  server.get('/gpu/leases', { config: { describes: describes.list } }, async () => ({
    leases: (await leases().running()).map(answerOf),
  }));
}

/** @throws RequestProblem for a GPU that the host does not have: a lease would never be granted */
function requestOf(body: z.output<typeof acquireBody>, agent: Agent): LeaseRequest {
  const devices = body.devices && [...new Set(body.devices)];
  const known = agent.observation().devices.flatMap((device) => (device.id === CPU ? [] : device.id));
  const missing = devices?.find((gpu) => !known.includes(gpu));
  if (missing !== undefined) {
    const remedy = `the GPUs are: ${known.join(', ') || 'none'}`;
    throw new RequestProblem(404, 'no-such-gpu', `there is no GPU ${missing}`, remedy);
  }
  return {
    id: body.id ?? randomUUID().slice(0, 8),
    holder: body.holder,
    mb: body.mb ?? null,
    on: devices ?? body.gpus ?? 1,
    priority: body.priority,
    ttlSeconds: body.ttl_seconds,
    pid: body.pid ?? null,
  };
}

const answerOf = (lease: LeaseState): LeaseAnswer => ({
  id: lease.id,
  holder: lease.holder,
  mb: lease.mb,
  priority: lease.priority,
  ttl_seconds: lease.ttlSeconds,
  state: lease.state,
  position: lease.position,
  gpus: lease.gpus,
  fencing_tokens: lease.epochs,
  expires_at: lease.expiresAt,
  reason: lease.reason,
});
