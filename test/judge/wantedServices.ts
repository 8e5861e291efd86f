/** Which services must run once all is over, told from what the operations said, and whether they do. */
import { setTimeout as pause } from 'node:timers/promises';
import type { JournalEntry } from '../../src/contracts/journal.js';
import { isService, tenantName } from '../../src/contracts/names.js';
import type { OperationGoal, OperationOutcome } from '../../src/contracts/operation.js';
import { livingServices, type ServiceFigures, serviceStates } from '../system/mediaPipeline.js';
import type { System } from '../system/system.js';

export interface Wanted {
  must: Set<string>;
  /** What an operation that did not end well left: running or not, both are right. */
  may: Set<string>;
}

export interface Pipeline {
  services: Record<string, ServiceFigures>;
  phases: Record<string, string[]>;
}

interface Ended {
  goal: OperationGoal;
  outcome: OperationOutcome;
}

/** @param operations the journal's, oldest first, from a host on which nothing ran and nothing was wanted */
export function wantedAfter(operations: JournalEntry[], { services, phases }: Pipeline): Wanted {
  const wanted: Wanted = { must: new Set(), may: new Set() };
  const move = (name: string, where: 'must' | 'may' | null): void => {
    wanted.must.delete(name);
    wanted.may.delete(name);
    if (where !== null) wanted[where].add(name);
  };
  for (const { details } of operations) {
    const { goal, outcome } = details as unknown as Ended;
    if (goal.kind !== 'phase' && goal.kind !== 'service') continue;
    const asked = goal.kind === 'service' ? [tenantName(goal.tenant)] : (phases[goal.phase] ?? []);
    const touched = outcome.steps
      .map(({ tenant }) => tenant)
      .filter(isService)
      .map(tenantName);
    if (outcome.status === 'refused' && touched.length === 0) continue;
    if (outcome.status !== 'done') {
      for (const name of goal.kind === 'phase' ? Object.keys(services) : [...asked, ...touched]) move(name, 'may');
    } else if (goal.kind === 'phase') {
      for (const name of Object.keys(services)) move(name, asked.includes(name) ? 'must' : null);
    } else {
      for (const tenant of outcome.displaced.filter(isService)) move(tenantName(tenant), null);
      for (const name of asked) move(name, goal.verb === 'stop' ? null : 'must');
    }
  }
  return wanted;
}

const LOOK_MS = 100;

/** @returns what still is not as it should be when the bound passes; nothing if all is well */
export async function settleServices(
  system: System,
  pipeline: Pipeline,
  firstJournal: number,
  boundMs: number,
): Promise<string[]> {
  const end = Date.now() + boundMs;
  for (;;) {
    const complaints = await complaintsAtRest(system, pipeline, firstJournal).catch((error: unknown) => [
      `no answer: ${String(error)}${error instanceof Error && error.cause instanceof Error ? `: ${error.cause.message}` : ''}`,
    ]);
    if (complaints.length === 0 || Date.now() > end) return complaints;
    await pause(LOOK_MS);
  }
}

async function complaintsAtRest(system: System, pipeline: Pipeline, firstJournal: number): Promise<string[]> {
  const { gpuHost } = system.simulator;
  const state = await system.hostState();
  const status = await system.status();
  const states = await serviceStates(system);
  const journal = (await system.journal()).filter(({ sequence }) => sequence > firstJournal);
  const { must, may } = wantedAfter(
    journal.filter(({ type }) => type === 'operation'),
    pipeline,
  );
  const complaints: string[] = [];
  const expect = (holds: boolean, what: string): void => {
    if (!holds) complaints.push(`at rest: ${what}`);
  };
  expect(state.turns.length === 0 && state.queue.length === 0, `turns or requests are left: ${JSON.stringify(state)}`);
  expect(status.turns.length === 0, `the agent's fence is held: ${JSON.stringify(status.turns)}`);
  const usedMb = gpuHost.cards.reduce((sum, card) => sum + gpuHost.usedMb(card) + card.spec.reservedMb, 0);
  const saidMb = status.gpus.reduce((sum, gpu) => sum + (gpu.usedMb ?? 0), 0);
  expect(Math.abs(saidMb - usedMb) <= gpuHost.cards.length, `used ${usedMb} MB, said ${saidMb}`);

  const freeMb = Math.max(...gpuHost.cards.map((card) => gpuHost.freeMb(card)));
  for (const [name, { vramMb }] of Object.entries(pipeline.services)) {
    const running = livingServices(system, name).length > 0;
    const said = states[name];
    if (running) {
      expect(must.has(name) || may.has(name), `${name} runs, and nobody wants it`);
      expect(said === 'ready', `${name} runs, its state is ${said}`);
    } else {
      expect(said === 'stopped' || said === 'failed', `${name} does not run, its state is ${said}`);
      // One that failed waits for its next try (P8), and by itself the host pushes nobody out.
      const failed = journal.some(
        ({ type, subject, details }) =>
          type === 'service_failed' && subject === `service/${name}` && details['failure'] !== undefined,
      );
      const fits = freeMb >= vramMb + system.config.reserve_mb;
      expect(
        !must.has(name) || (said === 'failed' && failed) || !fits,
        `${name} is wanted, and does not run (${said})`,
      );
    }
  }
  return complaints;
}
