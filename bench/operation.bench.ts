/** What an operation costs beside what it does: against a bare workflow, and against a server that is not tuned. */
import { randomUUID } from 'node:crypto';
import { fileURLToPath } from 'node:url';
import { bundleWorkflowCode, DefaultLogger, NativeConnection, Runtime, Worker } from '@temporalio/worker';
import { afterAll, describe, expect, it } from 'vitest';
import { CONTROL_QUEUE, workflowId } from '../src/contracts/names.js';
import type { OperationInput, OperationOutcome } from '../src/contracts/operation.js';
import { WORKER_TUNING } from '../src/roles/tuning.js';
import { startTemporal, type TestServer } from '../test/parts/temporal.js';
import { type System, startSystem } from '../test/system/system.js';
import type { BareInput, bare } from './bareWorkflows.js';
import { inTurns, median, type Row, report, samplesOf, spread } from './report.js';

const WARM = 5;
const RUNS = 40;
const STOCK_RUNS = 12;
const logger = new DefaultLogger('ERROR');
Runtime.install({ logger });

describe('an operation with an empty plan', () => {
  const rows: Row[] = [];
  const started: { stop(): Promise<void> }[] = [];
  afterAll(async () => {
    for (const one of started.reverse()) await one.stop();
    await report('An operation with an empty plan', rows);
  });

  async function start(options: { tuned?: boolean }): Promise<{ system: System; temporal: TestServer }> {
    const temporal = await startTemporal(options);
    started.push(temporal);
    const system = await startSystem({ temporal });
    started.push(system);
    return { system, temporal };
  }

  it('against a bare workflow with as many activities, and against stock settings', async () => {
    const { system, temporal } = await start({});
    const bareWorker = await startBare(temporal, system.host);
    started.push(bareWorker);
    const { activities, workflowTasks } = await partsOf(system, await operate(system));
    const ids: string[] = [];
    const runs = {
      operation: async () => ids.push(await operate(system)),
      bare: () => bareWorker.run(activities),
    };
    await inTurns(WARM, runs);
    const samples = await inTurns(RUNS, runs);
    const parts = await Promise.all(ids.slice(-RUNS).map((id) => partsOf(system, id)));
    const part = (name: 'turn' | 'observe' | 'conclude' | 'release') => spread(parts.map((one) => one[name]));
    const ratio = median(samples.operation) / median(samples.bare);

    const stock = await start({ tuned: false });
    await samplesOf(WARM, () => operate(stock.system));
    const slow = await samplesOf(STOCK_RUNS, () => operate(stock.system));
    const faster = median(slow) / median(samples.operation);
    const none = { goal: '', met: null };
    rows.push(
      {
        what: `operation (${activities} activities, ${workflowTasks} workflow tasks)`,
        measured: spread(samples.operation),
        ...none,
      },
      { what: '  until it has its turn', measured: part('turn'), ...none },
      { what: '  observe', measured: part('observe'), ...none },
      { what: '  conclude: journal, mode, gates', measured: part('conclude'), ...none },
      { what: '  release of the turn', measured: part('release'), ...none },
      { what: `bare workflow with ${activities} activities`, measured: spread(samples.bare), ...none },
      { what: 'operation ÷ bare', measured: ratio.toFixed(2), goal: '≤ 1.6', met: ratio <= 1.6 },
      { what: 'operation on the stock dev server', measured: spread(slow), ...none },
      { what: 'stock ÷ tuned', measured: faster.toFixed(1), goal: '≥ 5', met: faster >= 5 },
    );
  });
});

/** A switch to the mode that stands. @returns its workflow's id */
async function operate({ client, host }: System): Promise<string> {
  const id = workflowId.modeTransition(host, randomUUID());
  const input: OperationInput = {
    host,
    goal: { kind: 'mode', mode: 'idle' },
    requestedBy: 'a benchmark',
    priority: 50,
  };
  const outcome = await client.workflow.execute<(input: OperationInput) => Promise<OperationOutcome>>(
    'modeTransition',
    {
      workflowId: id,
      taskQueue: CONTROL_QUEUE,
      args: [input],
    },
  );
  expect(outcome).toMatchObject({ status: 'done', steps: [] });
  return id;
}

/** How long each part of an operation took, by the server's own times. */
async function partsOf({ client }: System, id: string) {
  const { events } = await client.workflow.getHandle(id).fetchHistory();
  const all = events ?? [];
  const at = (event: (typeof all)[number] | undefined): number =>
    Number(event?.eventTime?.seconds ?? Number.NaN) * 1_000 + (event?.eventTime?.nanos ?? 0) / 1e6;
  const scheduled = all.filter((event) => event.activityTaskScheduledEventAttributes);
  const completed = all.filter((event) => event.activityTaskCompletedEventAttributes);
  return {
    activities: scheduled.length,
    workflowTasks: all.filter((event) => event.workflowTaskCompletedEventAttributes).length,
    turn: at(scheduled[0]) - at(all[0]),
    observe: at(completed[0]) - at(scheduled[0]),
    conclude: at(completed.at(-1)) - at(scheduled.at(-1)),
    release: at(all.at(-1)) - at(completed.at(-1)),
  };
}

/** Two workers as vramflow has them: one for the workflow, one for its activities. */
async function startBare(temporal: TestServer, host: string) {
  const connection = await NativeConnection.connect({ address: temporal.address });
  const workflowsPath = fileURLToPath(new URL('bareWorkflows.ts', import.meta.url));
  const common = { ...WORKER_TUNING, connection, namespace: temporal.namespace };
  const workers = [
    await Worker.create({
      ...common,
      taskQueue: 'bare',
      workflowBundle: await bundleWorkflowCode({ workflowsPath, logger }),
    }),
    await Worker.create({ ...common, taskQueue: 'bare.host', activities: { nothing: () => Promise.resolve() } }),
  ];
  const running = Promise.all(workers.map((worker) => worker.run()));
  const { Client, Connection } = await import('@temporalio/client');
  const client = new Client({ connection: await Connection.connect({ address: temporal.address }) });
  return {
    run: async (activities: number) => {
      const input: BareInput = { taskQueue: 'bare.host', activities };
      await client.workflow.execute<typeof bare>('bare', {
        workflowId: `bare/${host}/${randomUUID()}`,
        taskQueue: 'bare',
        args: [input],
      });
    },
    stop: async () => {
      for (const worker of workers) worker.shutdown();
      await running;
      await client.connection.close();
      await connection.close();
    },
  };
}
