import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { OperationOutcome, PlanPreview } from '../../src/contracts/operation.js';
import { type System, startSystem } from '../system/system.js';

const SMALL = 'nomic-embed-text:latest';

describe('vramflow plan', () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem({ config: { models: { [SMALL]: { vram_mb: 650 } } } });
  });
  afterAll(() => system.stop());

  const preview = () => system.json<PlanPreview>(['plan', 'model', SMALL]);
  const stepsOf = ({ plan }: PlanPreview) =>
    plan.kind === 'plan' ? plan.steps.map(({ kind, tenant }) => `${kind} ${tenant}`) : [];

  it('shows what the operation then does, given what was moved by hand', async () => {
    expect((await system.cli('mode', 'autopilot')).code).toBe(0);
    // The mode would have it on the GPU; a person wants it elsewhere.
    expect((await system.cli('clip', 'move', 'cpu')).code).toBe(0);
    const seen = await preview();
    expect(seen.intentsKnown).toBe(true);
    const { outcome } = await system.json<{ outcome: OperationOutcome }>(['model', 'load', SMALL]);
    expect(outcome.steps.map(({ kind, tenant }) => `${kind} ${tenant}`)).toEqual(stepsOf(seen));
    expect(stepsOf(seen)).toEqual([`load model/${SMALL}`]);
  });

  it('knows what is wanted while no control worker runs, and says so when nobody knows', async () => {
    await system.control?.stop();
    expect((await preview()).intentsKnown).toBe(true);
    await system.temporal.kill();
    expect((await preview()).intentsKnown).toBe(false);
    expect((await system.cli('plan', 'model', SMALL)).stdout).toMatch(/could not be asked what it wants/);
    await system.temporal.restart();
  });
});
