/**
 * A phase preparation survives a real `kill -9` of the agent, the control worker, both or Temporal at each of its steps.
 * In `npm test` each step once, the victim rotating by a printed seed (`VRAMFLOW_SEED`); in
 * `npm run test:soak` each step with each victim.
 */
import { watch } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as pause } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { unreplayable } from '../judge/replays.js';
import { judgeServices, watchForTwins } from '../judge/services.js';
import { beginTrace } from '../judge/trace.js';
import { type Pipeline, settleServices } from '../judge/wantedServices.js';
import { fromNow, type Printed } from '../system/judge.js';
import {
  livingServices,
  MEDIA,
  MEDIA_PHASES,
  serviceStarts,
  serviceStates,
  servicesOf,
  stopWithServices,
} from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';
import { isBetweenStopAndProof, PHASE_POINTS, type Phase } from './phasePoints.js';
import { idOfAsked } from './points.js';
import { killAndRestart, VICTIMS } from './victims.js';

const SOAK = process.env['VRAMFLOW_SOAK'] === '1';
const SEED = Number(process.env['VRAMFLOW_SEED'] ?? Date.now() % 1_000);
const SPEED = 3;
const CASE_MS = 90_000;
const SETTLE_MS = 40_000;
/** Characters of the control worker's log in the message of a failed test. */
const LOG_TAIL = 4_000;
const OURS = VICTIMS.filter((victim) => !victim.startsWith('ollama'));
const RUNS_IN: Record<Phase, string> = { '3': 'cosyvoice', '4': 'comfyui' };
/** An operation that went on without the proof would have ended by then. */
const HELD_MS = 1_500;

const pipeline: Pipeline = { services: MEDIA, phases: MEDIA_PHASES };
const priorities = Object.fromEntries(Object.entries(MEDIA).map(([name, { priority }]) => [name, priority]));

/** Both directions of a step do the same with other services: in `npm test` they alternate. */
const steps = PHASE_POINTS.filter((_, index) => SOAK || (index + Math.floor(index / 2) + SEED) % 2 === 0);
const cases = (SOAK ? OURS.map((_, turn) => turn) : [SEED]).flatMap((turn) =>
  steps.map(({ phase, point }, index) => ({ phase, point, victim: OURS[(index + turn) % OURS.length] ?? 'agent' })),
);

describe(`a phase preparation and kill -9, seed ${SEED}`, () => {
  let system: System;
  const twins: string[] = [];
  beforeAll(async () => {
    const health = { interval_seconds: 0.5 };
    system = await startSystem({
      speed: SPEED,
      config: {
        degraded_retry_seconds: 1,
        vram_poll_ms: 100,
        services: await servicesOf(MEDIA, { health }),
        phases: MEDIA_PHASES,
      },
    });
    watchForTwins(system, Object.keys(MEDIA), (what) => twins.push(what));
    await system.json(['phase', 'prepare', '3']);
  }, 120_000);
  afterAll(() => stopWithServices(system), 60_000);

  it.each(cases)(
    'phase $phase, $point.name: $victim',
    async ({ phase, point, victim }) => {
      await from(system, phase === '4' ? '3' : '4');
      const trace = { ...(await beginTrace(system)), killed: new Set<number>() };
      const since = fromNow(system);
      const { faults } = system.simulator;
      if (isBetweenStopAndProof(point)) faults.set('memory-held', { of: 'service', count: 1 });
      const caller = system.cli('phase', 'prepare', phase, '-o', 'json');
      const workflowId = await idOfAsked(system, (goal) => goal.kind === 'phase' && goal.phase === phase);
      await point.reached(system, { seq: trace.firstSeq, journal: trace.firstJournal, workflowId });
      await killAndRestart(system, victim);
      if (isBetweenStopAndProof(point)) {
        // The memory stays away until whoever came back has looked at it.
        await system.until('the operation looks again', ({ turns }) =>
          turns.some((turn) => turn.workflow_id === workflowId),
        );
        await pause(HELD_MS);
        expect(serviceStarts(since())).toEqual([]);
        faults.clear('memory-held');
      }

      // The caller's await completes, and the target holds.
      const { code, stdout, stderr } = await caller;
      expect(stdout, `exit code ${code}: ${stderr}`).not.toBe('');
      const { outcome } = JSON.parse(stdout) as Printed;
      expect(outcome.status, outcome.summary).toBe('done');
      const unsettled = await settleServices(system, pipeline, 0, SETTLE_MS);
      expect(unsettled, system.control?.log().slice(-LOG_TAIL)).toEqual([]);
      expect(await serviceStates(system)).toEqual({
        comfyui: 'stopped',
        cosyvoice: 'stopped',
        vidi: 'stopped',
        server: 'stopped',
        [RUNS_IN[phase]]: 'ready',
      });
      // Once, not twice: neither at once nor one after the other.
      const starts = serviceStarts(since()).map(({ name }) => name);
      expect(starts).toEqual([RUNS_IN[phase]]);
      expect(twins).toEqual([]);
      expect(await judgeServices(system, trace, priorities)).toEqual([]);
    },
    CASE_MS,
  );

  it.each(SOAK ? [0, 1, 3, 10, 30] : [0, 1, 10])(
    'a service whose agent was killed %d ms after it had begun to start it is found and adopted',
    async (afterMs) => {
      await system.json(['phase', 'prepare', 'none']);
      const folder = join(system.folder, 'data', 'agents', system.host, 'simulated', 'services', 'vidi');
      await mkdir(folder, { recursive: true });
      const since = fromNow(system);
      const recorded = new Promise<void>((resolve) => {
        const watcher = watch(folder, (_, file) => {
          if (file === null || file.includes('.log')) return;
          watcher.close();
          resolve();
        });
      });
      const caller = system.json<Printed>(['service', 'start', 'vidi']);
      await recorded;
      if (afterMs > 0) await pause(afterMs);
      await killAndRestart(system, 'agent');
      expect((await caller).outcome.status).toBe('done');
      const starts = serviceStarts(since());
      expect(starts.map(({ name }) => name)).toEqual(['vidi']);
      expect(livingServices(system).map(({ pid }) => pid)).toEqual(starts.map(({ pid }) => pid));
      expect((await serviceStates(system))['vidi']).toBe('ready');
      const { processes } = await system.status();
      expect(processes?.find(({ pid }) => pid === starts[0]?.pid)?.owner).toBe('service/vidi');
      expect(twins).toEqual([]);
    },
    CASE_MS,
  );

  it('leaves histories that a new worker can take on', async () => {
    expect(await unreplayable(system)).toEqual([]);
  }, 60_000);
});

/** Where the case begins; a case before that ended in a clear failure left the host elsewhere. */
async function from(system: System, phase: Phase): Promise<void> {
  if ((await serviceStates(system))[RUNS_IN[phase]] !== 'ready') await system.json(['phase', 'prepare', phase]);
}
