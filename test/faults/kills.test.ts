/**
 * A mode switch survives a real `kill -9` of anything at each of its steps. In `npm test` each step once, the victim
 * rotating by a printed seed (`VRAMFLOW_SEED`); in `npm run test:soak` each step with each victim.
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, onTestFailed } from 'vitest';
import { workflowId } from '../../src/contracts/names.js';
import type { OperationOutcome } from '../../src/contracts/operation.js';
import { judgeHost } from '../judge/judge.js';
import { unreplayable } from '../judge/replays.js';
import { settle } from '../judge/settled.js';
import { beginTrace } from '../judge/trace.js';
import { type System, startSystem } from '../system/system.js';
import { idOfAsked, type Mode, POINTS } from './points.js';
import { endOrphans, isOllama, killAndRestart, VICTIMS } from './victims.js';

const SOAK = process.env['VRAMFLOW_SOAK'] === '1';
const SEED = Number(process.env['VRAMFLOW_SEED'] ?? Date.now() % 1_000);
const SPEED = 3;
const CASE_MS = 90_000;
/** An agent that is away is waited for; what failed is looked at again after a pause. */
const SETTLE_MS = 40_000;
const VLM = 'qwen3-vl:8b';

const cases = (SOAK ? VICTIMS.map((_, turn) => turn) : [SEED]).flatMap((turn) =>
  POINTS.map(({ mode, point }, index) => ({
    mode,
    point,
    // Ten steps a direction and six victims: the pairs differ between the directions, too.
    victim: VICTIMS[(Math.floor(index / 2) + (mode === 'recording' ? 0 : 3) + turn) % VICTIMS.length] ?? 'agent',
  })),
);

describe(`a mode switch and kill -9, seed ${SEED}`, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({ speed: SPEED, config: { degraded_retry_seconds: 1, vram_poll_ms: 100 } });
    await system.json(['mode', 'autopilot']);
  }, 120_000);
  afterAll(async () => {
    await system.stop();
  }, 60_000);

  it.each(cases)(
    '$mode, $point.name: $victim',
    async ({ mode, point, victim }) => {
      // The reason of a failed workflow task is told by the worker only.
      onTestFailed(() => console.error(`control worker:\n${system.control?.log() ?? 'ended'}`));
      await from(system, mode === 'recording' ? 'autopilot' : 'recording');
      const trace = await beginTrace(system);
      const caller = system.cli('mode', 'set', mode, '-o', 'json');
      const since = {
        seq: trace.firstSeq,
        journal: trace.firstJournal,
        workflowId: await idOfAsked(system, (goal) => goal.kind === 'mode' && goal.mode === mode),
      };
      await point.reached(system, since);
      if (isOllama(victim)) trace.disturbedMs.push(Date.now());
      await killAndRestart(system, victim);
      if (isOllama(victim)) trace.disturbedMs.push(Date.now());

      // The caller's await completes, and says what is there now.
      const { code, stdout, stderr } = await caller;
      expect(stdout, `exit code ${code}: ${stderr}`).not.toBe('');
      const { outcome } = JSON.parse(stdout) as { outcome: OperationOutcome };
      expect(['done', 'failed', 'refused']).toContain(outcome.status);
      expect(outcome.residency, outcome.summary).not.toBeNull();
      if (outcome.status !== 'done') expect(outcome.failure ?? outcome.refusal, outcome.summary).not.toBeNull();

      endOrphans(system);
      expect(await settle(system, SETTLE_MS)).toEqual([]);
      expect(await judgeHost(system, trace, { calm: false })).toEqual([]);
      const { vlm_state: vlm, clip_device: clip } = await system.status();
      if (outcome.status === 'done' && !isOllama(victim)) {
        expect({ vlm, clip }).toEqual(
          mode === 'recording' ? { vlm: 'loaded', clip: 'cpu' } : { vlm: 'unloaded', clip: 'cuda' },
        );
      }
      if (vlm === 'loaded') expect(await timerStatus(system)).toBe('RUNNING');
    },
    CASE_MS,
  );

  it('the idle timer of the last load still fires, after a restart of everything, at the time configured now (M12)', async () => {
    await system.json(['mode', 'recording']);
    await Promise.all([system.agent?.kill(), system.control?.kill(), system.temporal.kill()]);
    const file = join(system.folder, 'vramflow.yaml');
    writeFileSync(file, `${readFileSync(file, 'utf8')}\nidle_timeout_seconds: 2\n`);
    await system.temporal.restart();
    system.startControl();
    await system.startAgent();
    await system.until(
      'the idle unload',
      ({ vlm_state, turns }) => vlm_state === 'unloaded' && turns.length === 0,
      30_000,
    );
    expect(await system.journal('idle_unload')).toHaveLength(1);
  }, 90_000);

  it('leaves histories that a new worker can take on', async () => {
    expect(await unreplayable(system)).toEqual([]);
  }, 60_000);
});

/** Where the case begins; a case before that ended in a clear failure left the host elsewhere. */
async function from(system: System, mode: Mode): Promise<void> {
  const { execution_mode, vlm_state } = await system.status();
  const stands = execution_mode === mode && (vlm_state === 'loaded') === (mode === 'recording');
  if (!stands) await system.json(['mode', 'set', mode]);
}

async function timerStatus({ client, host }: System): Promise<string> {
  const { status } = await client.workflow.getHandle(workflowId.idleUnload(host, VLM)).describe();
  return status.name;
}
