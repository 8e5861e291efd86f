/** The real workflows with scripted agents, on a server of `servers.ts`. */
import { existsSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { ApplicationFailure, type Client, WorkflowFailedError, WorkflowNotFoundError } from '@temporalio/client';
import { Worker } from '@temporalio/worker';
import { createControlActivities, signalHost } from '../../src/activities/control.js';
import type { ControlActivities } from '../../src/contracts/activities.js';
import { type HostState, SIGNAL } from '../../src/contracts/messages.js';
import { CONTROL_QUEUE, SEARCH_ATTRIBUTES, workflowId } from '../../src/contracts/names.js';
import type { OperationInput, OperationOutcome } from '../../src/contracts/operation.js';
import { type AskedGoal, startOf } from '../../src/contracts/start.js';
import { readHostState } from '../../src/gateway/publishedState.js';
import { MODEL } from './hardware.js';
import { ScriptedAgent } from './scriptedAgent.js';
import type { Server } from './servers.js';

export interface WorldOptions {
  /**
   * Nothing is cached: each workflow task replays its history from the start, as if the control worker had been killed
   * before it.
   */
  forgetful?: boolean;
  /** Around each activity of the control worker, for a host. */
  aroundControl?: <T>(name: keyof ControlActivities, host: string, run: () => Promise<T>) => Promise<T>;
}

const LOOK_MS = 10;
const BUNDLE = fileURLToPath(new URL('../../dist/workflows.bundle.js', import.meta.url));

let count = 0;

export class World {
  private readonly agents: ScriptedAgent[] = [];

  private constructor(
    private readonly server: Server,
    private readonly control: Worker,
    private readonly running: Promise<void>,
  ) {}

  /** One at a time on a server, which its test ends. */
  static async start(server: Server, { forgetful = false, aroundControl }: WorldOptions = {}): Promise<World> {
    if (!existsSync(BUNDLE)) throw new Error('dist/ has no workflow bundle: npm run build');
    const real = createControlActivities(server.client);
    const around: NonNullable<WorldOptions['aroundControl']> = aroundControl ?? ((_name, _host, run) => run());
    const activities: ControlActivities = {
      requestTurnOfNewHost: (host, request) =>
        around('requestTurnOfNewHost', host, () => real.requestTurnOfNewHost(host, request)),
      ensureIdleTimer: (host, tenant) => around('ensureIdleTimer', host, () => real.ensureIdleTimer(host, tenant)),
      describeHolder: (holder) => real.describeHolder(holder),
      terminateHolder: (holder, reason) => real.terminateHolder(holder, reason),
    };
    const worker = await Worker.create({
      connection: server.native,
      taskQueue: CONTROL_QUEUE,
      workflowBundle: { codePath: BUNDLE },
      activities: { ...activities },
      ...(forgetful ? { maxCachedWorkflows: 0 } : { maxCachedWorkflows: 100 }),
    });
    return new World(server, worker, worker.run());
  }

  get client(): Client {
    return this.server.client;
  }

  /** A host with its agent, which has told what is there. */
  async host(prepare: (agent: ScriptedAgent) => void = () => {}): Promise<ScriptedAgent> {
    count += 1;
    const agent = new ScriptedAgent(`s${count}`, this.server.native);
    prepare(agent);
    this.agents.push(agent);
    await agent.start();
    await signalHost(this.client, agent.host, SIGNAL.agentOnline, []);
    // A request that comes now waits until the host has taken in what it was told.
    await this.until(() => agent.points.includes('describeAgent#1 after'));
    return agent;
  }

  /** Ends a host: activities that nobody takes would hold the time up. */
  async retire(agent: ScriptedAgent): Promise<void> {
    for (const id of [workflowId.gpuHost(agent.host), workflowId.idleUnload(agent.host, MODEL)]) {
      await this.client.workflow
        .getHandle(id)
        .terminate('the test is over')
        .catch((error: unknown) => {
          if (!(error instanceof WorkflowNotFoundError)) throw error;
        });
    }
    await agent.stop();
  }

  async hostState({ host }: ScriptedAgent): Promise<HostState> {
    const state = await readHostState(this.client, host);
    if (state === null) throw new Error('the host has not begun yet');
    return state;
  }

  start({ host }: ScriptedAgent, goal: AskedGoal, request: string, priority = 50) {
    const input: OperationInput = { host, goal, requestedBy: 'a test', priority };
    const { workflow, workflowId: id } = startOf(host, goal, request);
    return this.client.workflow.start(workflow, {
      workflowId: id,
      taskQueue: CONTROL_QUEUE,
      args: [input],
      searchAttributes: { [SEARCH_ATTRIBUTES.host]: [host] },
    });
  }

  /** Runs an operation to its end, however much time that takes. */
  async run(agent: ScriptedAgent, goal: AskedGoal, request: string): Promise<OperationOutcome> {
    return this.end(await this.start(agent, goal, request));
  }

  /** The outcome of an operation, failed ones included. */
  async end(handle: { result(): Promise<unknown> }): Promise<OperationOutcome> {
    let outcome: OperationOutcome | null = null;
    let failure: unknown = null;
    const result = handle.result().then(
      (value) => {
        outcome = value as OperationOutcome;
      },
      (error: unknown) => {
        failure = error;
        if (error instanceof WorkflowFailedError && error.cause instanceof ApplicationFailure) {
          outcome = (error.cause.details?.[0] as OperationOutcome | undefined) ?? null;
        }
      },
    );
    let ended = false;
    void result.then(() => {
      ended = true;
    });
    await this.until(() => ended);
    if (outcome === null) throw new Error('the operation ended without an outcome', { cause: failure });
    return outcome;
  }

  /** Waits until it holds. */
  async until(holds: () => boolean | Promise<boolean>, boundMs = 40 * 60_000): Promise<void> {
    const end = Date.now() + boundMs;
    while (!(await holds())) {
      if (Date.now() > end) throw new Error(`it did not come true in ${boundMs / 1000} s`);
      await pause(LOOK_MS);
    }
  }

  async stop(): Promise<void> {
    await Promise.all(this.agents.map((agent) => agent.dispose()));
    this.control.shutdown();
    await this.running;
  }
}
