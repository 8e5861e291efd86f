/** Which services must run once all is over, told from what the operations said, and whether they do. */
import { setTimeout as pause } from 'node:timers/promises';
import type { JournalEntry } from '../../src/contracts/journal.js';
import { isService, tenantName } from '../../src/contracts/names.js';
import type { OperationGoal, OperationOutcome } from '../../src/contracts/operation.js';
import type { RecordEntry } from '../../src/simulator/record.js';
import { livingServices, type ServiceFigures, serviceStates } from '../system/mediaPipeline.js';
import type { System } from '../system/system.js';
import { isOf, timeOf, wall } from './evidence.js';

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

/**
 * @param operations the journal's, oldest first, from a host on which nothing ran and nothing was wanted
 * @param record tells what an operation that did not end well left alone
 */
export function wantedAfter(
  operations: JournalEntry[],
  { services, phases }: Pipeline,
  record: readonly RecordEntry[],
): Wanted {
  const wanted: Wanted = { must: new Set(), may: new Set() };
  const move = (name: string, where: 'must' | 'may' | null): void => {
    wanted.must.delete(name);
    wanted.may.delete(name);
    if (where !== null) wanted[where].add(name);
  };
  for (const entry of operations) {
    const { goal, outcome } = entry.details as unknown as Ended;
    if (goal.kind !== 'phase' && goal.kind !== 'service') continue;
    const asked = goal.kind === 'service' ? [tenantName(goal.tenant)] : (phases[goal.phase] ?? []);
    const touched = outcome.steps
      .map(({ tenant }) => tenant)
      .filter(isService)
      .map(tenantName);
    if (outcome.status === 'refused' && touched.length === 0) continue;
    if (outcome.status !== 'done') {
      const toldMs = timeOf(entry);
      for (const name of goal.kind === 'phase' ? Object.keys(services) : [...asked, ...touched]) {
        const life = lifeDuring(record, name, { fromMs: toldMs - outcome.totalMs, toMs: toldMs });
        // What stood all the while still is wanted as it was, and what ran through it is there: only a stop lets it go.
        if (life === 'changed' || (goal.kind === 'service' && goal.verb !== 'start')) move(name, 'may');
        else if (life === 'ran') move(name, 'must');
      }
    } else if (goal.kind === 'phase') {
      for (const name of Object.keys(services)) move(name, asked.includes(name) ? 'must' : null);
    } else {
      for (const tenant of outcome.displaced.filter(isService)) move(tenantName(tenant), null);
      for (const name of asked) move(name, goal.verb === 'stop' ? null : 'must');
    }
  }
  return wanted;
}

/** What the record says of a service around an operation: it ran all the while, or did not at all, or came or went. */
function lifeDuring(
  record: readonly RecordEntry[],
  name: string,
  { fromMs, toMs }: { fromMs: number; toMs: number },
): 'ran' | 'absent' | 'changed' {
  let living = 0;
  for (const entry of record.filter(isOf('process-start', 'process-end'))) {
    if (entry.holderKind !== 'service' || entry.name !== name || wall(entry) > toMs + AROUND_MS) continue;
    if (wall(entry) >= fromMs - AROUND_MS) return 'changed';
    living += entry.kind === 'process-start' ? 1 : -1;
  }
  return living > 0 ? 'ran' : 'absent';
}

/** What happens this close to an operation may be its doing, or be unseen by it. */
const AROUND_MS = 1_500;

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
  const journal = await system.journalAfter(firstJournal);
  const { must, may } = wantedAfter(
    journal.filter(({ type }) => type === 'operation'),
    pipeline,
    system.simulator.record(),
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
      // By itself the host pushes nobody out.
      const fits = freeMb >= vramMb + system.config.reserve_mb;
      expect(!must.has(name) || !fits, `${name} is wanted, and does not run (${said})`);
    }
  }
  return complaints;
}
