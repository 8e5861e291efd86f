/** What vramflow costs while it does nothing much: a status, the sampler, memory; and how soon it is back after a kill. */
import { execFile } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { setTimeout as pause } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import type { WorkflowHandle } from '@temporalio/client';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { statusOf } from '../src/agent/status.js';
import { findProcesses, readArgv } from '../src/processes/proc.js';
import { agentOnFakes } from '../test/agent/pieces.js';
import { type System, startSystem } from '../test/system/system.js';
import { median, ms, quantile, type Row, report, samplesOf, spread } from './report.js';

const CLIENT = fileURLToPath(new URL('../dist/client.js', import.meta.url));
const IDLE_MS = 20_000;
const KILLS = 4;
const none = { goal: '', met: null };

describe('the cost of vramflow', () => {
  const rows: Row[] = [];
  let system: System;
  beforeAll(async () => {
    system = await startSystem();
    await system.json(['mode', 'recording']);
  });
  afterAll(async () => {
    await system.stop();
    await report('Cost at rest, status, memory, recovery', rows);
  });

  it('a status', async () => {
    const { agent, ollama } = await agentOnFakes();
    ollama.put('qwen3-vl:8b');
    await agent.watch.look();
    const readStatus = () => Promise.resolve(statusOf(agent, '0', 0));
    await samplesOf(1_000, readStatus); // As in an agent that has run for a while.
    const inMemory = await samplesOf(5_000, readStatus);
    const p99 = quantile(inMemory, 0.99);
    const inAgent = await samplesOf(300, () => system.status());
    const whole = await samplesOf(5, () =>
      promisify(execFile)(process.execPath, [CLIENT, 'status'], { env: environment(system) }),
    );
    rows.push(
      {
        what: 'status in the agent, p99 of 5,000',
        measured: `${ms(p99)}, median ${ms(median(inMemory))}`,
        goal: '< 1 ms',
        met: p99 < 1,
      },
      { what: 'status over HTTP, by a caller that runs already', measured: spread(inAgent), ...none },
      { what: 'vramflow status, a process of its own', measured: spread(whole), ...none },
    );
  });

  it('the CPU of the agent at rest, sampling at 1 Hz', async () => {
    const status = await system.status();
    expect(status.turns).toEqual([]);
    const agent = status.agent.pid;
    const control = system.control?.pid ?? 0;
    const [clip = 0] = await childrenOf(agent, /embedder\.js$/);
    const streams = () => childrenOf(agent, /nvidiaSmi\.js$/);
    const cpu = async () => ({
      agent: ownCpuMs(agent),
      // One that ended meanwhile is in what the agent has reaped.
      streams: reapedCpuMs(agent) + sum((await streams()).map(ownCpuMs)),
      control: ownCpuMs(control),
      clip: ownCpuMs(clip),
    });
    const [before, begun] = [await cpu(), performance.now()];
    await pause(IDLE_MS);
    const [after, passed] = [await cpu(), performance.now() - begun];
    const row = (what: string, ...of: (keyof typeof after)[]) => {
      const share = (100 * sum(of.map((one) => after[one] - before[one]))) / passed;
      return { what: `CPU of ${what}, of one core`, measured: `${share.toFixed(2)} %`, share };
    };
    const sampling = row('the agent at rest', 'agent');
    rows.push(
      { ...sampling, goal: '< 1 %', met: sampling.share < 1 },
      // A real one is another program.
      { ...row('its nvidia-smi, played by Node', 'streams'), ...none },
      { ...row('the control worker at rest', 'control'), ...none },
      { ...row('the CLIP process at rest', 'clip'), ...none },
    );
    const played = await streams();
    const memory = (what: string, all: number[]) => ({
      what: `memory of ${what} (RSS)`,
      measured: `${sum(all.map(rssMb))} MB`,
      ...none,
    });
    rows.push(
      memory('the agent', [agent]),
      memory(`its ${played.length} nvidia-smi, played by Node`, played),
      memory('the CLIP process, played without a model', [clip]),
      memory('the control worker', [control]),
      memory('the Temporal server', [system.temporal.pid]),
    );
  });

  it('from a kill -9 of the agent in a load to its next step', async () => {
    const samples: number[] = [];
    for (let i = 0; i < KILLS; i += 1) {
      await system.json(['mode', 'autopilot']);
      const { workflow_id } = await system.json<{ workflow_id: string }>(['mode', 'recording', '--no-wait']);
      await system.until('the load', ({ vlm_state }) => vlm_state === 'loading');
      await system.agent?.kill();
      const killed = Date.now();
      await system.startAgent();
      const operation = system.client.workflow.getHandle(workflow_id);
      await operation.result();
      samples.push((await nextActivityAfter(killed, operation)) - killed);
    }
    rows.push({
      what: 'kill -9 of the agent, started again at once → its next step',
      measured: spread(samples),
      ...none,
    });
    expect(quantile(samples, 1)).toBeLessThan(60_000);
  });
});

/** When the first activity after a moment began, by the server's clock, which is this machine's. */
async function nextActivityAfter(moment: number, operation: WorkflowHandle): Promise<number> {
  const { events } = await operation.fetchHistory();
  const begun = (events ?? [])
    .filter((event) => event.activityTaskStartedEventAttributes)
    .map(({ eventTime }) => Number(eventTime?.seconds) * 1_000 + (eventTime?.nanos ?? 0) / 1e6);
  return begun.find((at) => at > moment) ?? Number.NaN;
}

async function childrenOf(pid: number, program: RegExp): Promise<number[]> {
  const found = await findProcesses(async (one) => {
    return one.parent === pid && ((await readArgv(one.pid)) ?? []).some((word) => program.test(word));
  });
  return found.map((one) => one.pid);
}

const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);

/** User and system time of a process so far, ms. */
const ownCpuMs = (pid: number): number => cpuMs(pid, 11);

/** The same of its children that have ended. */
const reapedCpuMs = (pid: number): number => cpuMs(pid, 13);

/** Linux counts in ticks of 10 ms. */
function cpuMs(pid: number, field: number): number {
  const stat = readFileSync(`/proc/${pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return 10 * (Number(fields[field]) + Number(fields[field + 1]));
}

const rssMb = (pid: number): number =>
  Math.round(Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) / 1_024);

const environment = (system: System): NodeJS.ProcessEnv => ({
  ...process.env,
  HOME: system.folder,
  XDG_CONFIG_HOME: system.folder,
  VRAMFLOW_CONFIG: `${system.folder}/vramflow.yaml`,
});
