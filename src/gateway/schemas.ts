/** The shapes of the answers: the types that the code keeps to, and what the OpenAPI document says. */
import { z } from 'zod';
import { SERVICE_STATES } from '../contracts/status.js';

/** Schemas with a name of their own in the document. */
export const named = z.registry<{ id: string }>();

function name<Schema extends z.ZodType>(id: string, schema: Schema): Schema {
  named.add(schema, { id });
  return schema;
}

const problem = z.object({
  code: z.string().describe('For programs; it stays the same over versions.'),
  message: z.string(),
  remedy: z.string().nullable().describe('What to do about it.'),
});

export const problemSchema = name('Problem', z.object({ error: problem }));

const time = z.iso.datetime();

const leaseSchema = z.object({
  id: z.string(),
  holder: z.string(),
  mb: z.int().nullable().describe('MB of VRAM on each of its GPUs; null: whole ones.'),
  priority: z.int(),
  ttl_seconds: z.number(),
  state: z
    .enum(['queued', 'held', 'revoked', 'ended'])
    .describe('`revoked`: something of higher priority needs the memory; give it back within the grace.'),
  position: z.int().nullable().describe('1 for the next in line; null unless it is queued.'),
  gpus: z.array(z.string()).describe('The UUIDs of the GPUs that it is on.'),
  fencing_tokens: z
    .record(z.string(), z.int())
    .describe('By GPU: a number that only grows. Who sees a higher one must take the bearer of a lower one for late.'),
  expires_at: time.nullable().describe('It ends by itself then, unless it is renewed; null while it is queued.'),
  reason: z.string().nullable().describe('Why it waits, or why it ended.'),
});

export const leaseAnswerSchema = name('Lease', leaseSchema);
export const leasesSchema = name('Leases', z.object({ leases: z.array(leaseAnswerSchema) }));
export const leaseRefusalSchema = name(
  'LeaseRefusal',
  z.object({ error: problem, lease: leaseAnswerSchema.optional() }),
);
export const leaseReleasedSchema = name('LeaseReleased', z.object({ id: z.string(), released: z.literal(true) }));

const serviceStates = Object.values(SERVICE_STATES) as [string, ...string[]];

const lockSchema = z.object({
  holder: z.string().nullable().describe('Who has the lock; null: nobody.'),
  kind: z
    .enum(['lease', 'operation'])
    .nullable()
    .describe('A lease over a whole GPU, which lasts; or an operation, for as long as it changes what is loaded.'),
  id: z.string().nullable().describe("The lease's id, or the operation's workflow."),
  what: z.string().nullable().describe('What is held, for people.'),
  devices: z.array(z.string()),
  since: time.nullable(),
  held_ms: z.int().nullable(),
  expires_at: time.nullable().describe('Of a lease: it ends by itself then, unless it is renewed.'),
});

export const gpuStatusSchema = name(
  'GpuStatus',
  z.object({
    vram: z
      .object({ total_mb: z.number(), used_mb: z.number(), free_mb: z.number() })
      .nullable()
      .describe('The sum over all GPUs; null while it is not known.'),
    services: z.record(
      z.string(),
      z.object({
        state: z.enum(serviceStates),
        vram_mb: z.number(),
        charge_mb: z.number(),
        priority: z.number(),
        reason: z.string().optional().describe('Why it does not run although it is wanted.'),
        next_try_at: time.nullable().optional(),
      }),
    ),
    lock: lockSchema.describe('The lock of P7.'),
    leases: z
      .array(
        z.object({
          id: z.string(),
          holder: z.string(),
          mb: z.int().nullable().describe('On each of its GPUs; null: whole ones.'),
          gpus: z.array(z.string()),
          priority: z.int(),
          since: time,
          expires_at: time,
        }),
      )
      .describe('All that are held, also those over a part of a GPU.'),
    phase: z.string().nullable().describe('The phase prepared last.'),
    phase_problem: z.string().nullable().describe('What keeps the phase from being whole.'),
    degraded: z.boolean(),
    degraded_reason: z.string().nullable(),
    simulated: z.boolean(),
  }),
);

const megabytesByGpu = z.record(z.string(), z.number().nullable());

const stepSchema = z.object({
  step: z.string(),
  kind: z.enum(['unload', 'load', 'move']),
  tenant: z.string(),
  ms: z.number(),
  attempts: z.int(),
  proof: z.object({
    beforeMb: megabytesByGpu,
    afterMb: megabytesByGpu,
    reclaimMs: z.number().nullable(),
    by: z.string(),
  }),
  acted: z.boolean().describe('False when it was true already.'),
});

const startedShape = {
  workflow_id: z.string(),
  web_ui: z.string().nullable().describe("The workflow's page; null where no Web UI is known."),
};

export const startedSchema = name('Started', z.object(startedShape));

export const outcomeShape = {
  status: z.enum(['done', 'refused', 'superseded', 'cancelled', 'failed']),
  summary: z.string().describe('What was done and why, or why not, for people.'),
  error: problem.optional(),
  compensation: z.string().nullable().describe('What was put back after a failure.'),
  total_ms: z.number(),
  steps: z.array(stepSchema),
};

export const outcomeSchema = name('Outcome', z.object({ ...startedShape, ...outcomeShape }));
export const openApiSchema = name(
  'OpenApi',
  z.looseObject({ openapi: z.string() }).describe('An OpenAPI 3.1 document.'),
);

export type GpuStatus = z.output<typeof gpuStatusSchema>;
export type LeaseAnswer = z.output<typeof leaseAnswerSchema>;
export type Outcome = z.output<typeof outcomeSchema>;
