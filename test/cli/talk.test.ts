import { afterEach, beforeEach, describe, expect, it, vi } from 'vitest';
import { type AgentClient, ConnectionLost } from '../../src/cli/agentClient.js';
import { follow } from '../../src/cli/commands/events.js';
import { EXIT } from '../../src/cli/exitCodes.js';
import type { Output } from '../../src/cli/output.js';
import { followProgress } from '../../src/cli/progress.js';
import { readableLog } from '../../src/cli/readableLog.js';
import { UserError } from '../../src/cli/userError.js';
import type { Status } from '../../src/contracts/status.js';

describe('progress', () => {
  beforeEach(() => void vi.useFakeTimers());
  afterEach(() => void vi.useRealTimers());

  const noAgent = () => new UserError('No agent answers at X.', { exitCode: EXIT.unavailable, remedy: 'Start it.' });
  const calm = { host: 'desk', tenants: [], turns: [], vram: null, simulated: false } as unknown as Status;
  const working = { ...calm, turns: [{ workflow_id: 'w', devices: [], for_ms: 1 }] };

  /** What is said for so long, while the agent answers so. */
  async function said(seconds: number, answer: (atMs: number) => Status): Promise<string[]> {
    const lines: string[] = [];
    const begun = Date.now();
    const get = () => new Promise((resolve) => resolve(answer(Date.now() - begun)));
    const output = { talk: (line: string) => void lines.push(line) } as unknown as Output;
    const following = followProgress({ get } as unknown as AgentClient, 'desk', output);
    await vi.advanceTimersByTimeAsync(seconds * 1000);
    following.stop();
    return lines;
  }

  const down = (): Status => {
    throw noAgent();
  };

  it('says after some seconds, once, that no agent answers, and what to do', async () => {
    expect((await said(2, down)).join('\n')).not.toMatch(/No agent answers/);
    const lines = await said(30, down);
    expect(
      lines.filter((line) => /No agent answers for host desk.*No agent answers at X\. Start it\./.test(line)),
    ).toHaveLength(1);
    expect(lines.filter((line) => /waiting for the agent/.test(line)).length).toBeGreaterThan(1);
    expect(lines.length).toBeLessThan(8);
  });

  it('says so when the agent there is that of another host', async () => {
    expect((await said(5, () => ({ ...working, host: 'other' }))).join('\n')).toMatch(/that of other/);
  });

  it('says nothing of it for an agent that is away for a moment, and begins anew each time', async () => {
    const lines = await said(30, (atMs) => (atMs % 4_000 < 2_000 ? down() : working));
    expect(lines.join('\n')).not.toMatch(/No agent answers/);
  });

  it('asks for a control worker when nobody grants the turn; not when it was had', async () => {
    expect((await said(9, () => calm)).join('\n')).not.toMatch(/control worker/);
    expect((await said(15, () => calm)).join('\n')).toMatch(/control worker/);
    expect((await said(30, (atMs) => (atMs < 2_000 ? working : calm))).join('\n')).not.toMatch(/control|waiting/);
  });
});

describe('events that are followed', () => {
  it('go on where they were when the agent ends a connection; an agent that is gone ends them', async () => {
    const asked: string[] = [];
    const event = (sequence: number) => `data: ${JSON.stringify({ sequence })}`;
    const lines = async function* (path: string) {
      asked.push(path);
      if (asked.length === 3) throw new UserError('No agent answers.', { exitCode: EXIT.unavailable });
      yield* [event(asked.length * 2), event(asked.length * 2 + 1)];
      throw new ConnectionLost('It was slow.');
    };
    const seen: number[] = [];
    const all = async () => {
      for await (const { sequence } of follow({ lines } as unknown as AgentClient, 1)) seen.push(sequence);
    };
    await expect(all()).rejects.toThrow('No agent answers.');
    expect(seen).toEqual([2, 3, 4, 5]);
    expect(asked).toEqual([1, 3, 5].map((after) => `/v1/events?after=${after}`));
  });
});

describe('the log in the foreground', () => {
  it('is readable, whole lines only; what is no JSON stays as it is', () => {
    let shown = '';
    const passOn = readableLog((text) => (shown += text), { colorize: false });
    const entry = { level: 30, time: 1, role: 'agent', host: 'desk', queue: 'host.desk', msg: 'the agent runs' };
    const text = `Starting Temporal.\n[agent] ${JSON.stringify(entry)}\n[agent] error: no {json}\n[agent] {cut\n`;
    for (let at = 0; at < text.length; at += 7) passOn(text.slice(at, at + 7));
    expect(shown.replace(/\d\d:\d\d:\d\d/, 'TIME')).toBe(
      'Starting Temporal.\n[agent] [TIME] INFO: the agent runs {"queue":"host.desk"}\n[agent] error: no {json}\n[agent] {cut\n',
    );
  });
});
