/** What the command line says to a person: once, in time, and with what can be done. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { PassThrough } from 'node:stream';
import { afterAll, beforeAll, describe, expect, it, onTestFinished, vi } from 'vitest';
import { EXIT } from '../../src/cli/exitCodes.js';
import { main } from '../../src/client.js';
import type { JournalEntry } from '../../src/contracts/journal.js';
import type { LeaseState } from '../../src/contracts/lease.js';
import { startCommand } from '../system/children.js';
import type { Printed } from '../system/judge.js';
import { MEDIA, MEDIA_PHASES, servicesOf } from '../system/mediaPipeline.js';
import { type System, startSystem } from '../system/system.js';

/** A command that is watched while it runs. */
function begin(system: System, ...argv: string[]) {
  const [stdout, stderr] = [new PassThrough(), new PassThrough()];
  let said = '';
  stderr.on('data', (data: Buffer) => {
    said += data.toString();
  });
  const code = main(argv, { env: system.env, cwd: system.folder, stdout, stderr });
  return { code, said: () => said };
}

const WEB_UI = 'http://temporal.test:8080';

const times = (words: RegExp, text: string): number => [...text.matchAll(new RegExp(words, 'g'))].length;

describe('the command line of a simulated host', { timeout: 60_000 }, () => {
  let system: System;
  beforeAll(async () => {
    const temporal = { ui_url: WEB_UI };
    system = await startSystem({ config: { services: await servicesOf(MEDIA), phases: MEDIA_PHASES, temporal } });
  });
  afterAll(() => system.stop());

  it('says so once, on stderr, with whatever shows figures or moves something (law 7)', async () => {
    const commands: [string[], number][] = [
      [['status'], EXIT.ok],
      [['plan', 'mode', 'recording'], EXIT.ok],
      [['model', 'ps'], EXIT.ok],
      [['can-fit', '90000'], EXIT.refused],
      [['generate', 'vlm', 'hello'], EXIT.ok],
      [['mode', 'idle', '--no-wait'], EXIT.ok],
      [['model', 'unload', 'vlm'], EXIT.ok],
      [['lease', 'list'], EXIT.ok],
      [['lease', 'acquire', '--id', 'said', '--mb', '1000'], EXIT.ok],
      [['lease', 'release', 'said'], EXIT.ok],
      [['lease', 'run', '--mb', '90000', '--', 'true'], EXIT.refused],
      // Refused by the agent.
      [['plan', 'model', 'other:1b', '--set', 'models.other:1b.vram_mb=9'], EXIT.usage],
    ];
    for (const [argv, code] of commands) {
      const result = await system.cli(...argv);
      const simulated = times(/SIMULATED/, result.stdout + result.stderr);
      expect({ argv, code: result.code, simulated }, result.stderr).toEqual({ argv, code, simulated: 1 });
      expect(result.stderr).toMatch(/SIMULATED/);
    }
  });

  it('names the workflow of each operation and its page in the Web UI, on stderr and in JSON', async () => {
    const page = (id: string, run: string) =>
      `${WEB_UI}/namespaces/default/workflows/${encodeURIComponent(id)}/${run}/history`;
    const ids: string[] = [];
    for (const [argv, prefix] of [
      [['mode', 'idle'], 'mode/HOST/'],
      [['model', 'unload', 'vlm'], 'model/HOST/qwen3-vl:8b/unload/'],
      [['model', 'load', 'vlm', '--no-wait'], 'model/HOST/qwen3-vl:8b/load/'],
      [['clip', 'move', 'cpu'], 'model/HOST/clip/'],
      [['phase', 'prepare', 'none'], 'phase/HOST/none/'],
      [['service', 'stop', 'cosyvoice'], 'service/HOST/cosyvoice/stop/'],
    ] as const) {
      const { stdout, stderr } = await system.cli(...argv, '-o', 'json');
      const printed = JSON.parse(stdout) as Printed & { web_ui: string };
      const { workflow_id: id, run_id: run, web_ui } = printed;
      expect(id.startsWith(prefix.replace('HOST', system.host)), id).toBe(true);
      expect((await system.client.workflow.getHandle(id).describe()).runId).toBe(run);
      expect(web_ui).toBe(page(id, run));
      expect(stderr).toContain(`workflow ${id}\n  ${web_ui}\n`);
      ids.push(id);
    }
    const history = await system.json<JournalEntry[]>(['history']);
    expect(history.map(({ workflowId }) => workflowId)).toEqual(expect.arrayContaining(ids));
  });

  it('leaves at Ctrl-C, and says that the operation goes on: it does', async () => {
    for (const [argv, said] of [
      [['model', 'load', 'vlm'], /^error: (model\/\S+) goes on; .*\n {2}`vramflow history` tells how it ends\.\n$/m],
      [
        ['model', 'unload', 'vlm', '-o', 'json'],
        /^\{"error":\{"code":"interrupted","message":"(model\/\S+) goes on;.*"exitCode":130\}\}\n$/m,
      ],
    ] as const) {
      const command = startCommand(system.env, ...argv);
      while (!/^ +\d+\.\d s {2}/.test((await command.nextSaid()) ?? '')) continue;
      const { code, said: all } = await command.interrupt();
      expect(code).toBe(EXIT.interrupted);
      expect(all).toMatch(said);
      const id = said.exec(all)?.[1] ?? '';
      await expect(system.client.workflow.getHandle(id).result()).resolves.toMatchObject({ status: 'done' });
    }
  });

  it('tells a mode that changed although nothing had to be moved from one that was true already', async () => {
    await system.cli('mode', 'idle');
    await system.cli('clip', 'move', 'cuda');
    expect((await system.cli('mode', 'autopilot')).stdout).toMatch(
      /^done: mode autopilot: the mode is changed from idle, and nothing had to be moved/,
    );
    expect((await system.cli('mode', 'autopilot')).stdout).toMatch(/^done: mode autopilot: it was true already/);
    await system.cli('mode', 'idle');
  });

  it("knows the phases and services of the agent's configuration, also without its file", async () => {
    const file = join(system.folder, 'bare.yaml');
    writeFileSync(file, `host: ${system.host}\ndata_dir: ${join(system.folder, 'data')}\n`);
    const bare = (...argv: string[]) => system.cli(...argv, '--config', file);
    expect(await bare('phase', 'prepare', '3')).toMatchObject({
      code: EXIT.ok,
      stdout: expect.stringMatching(/^done: phase 3/),
    });
    expect((await bare('phase', 'status')).stdout).toMatch(/phase 3: ready\n {2}cosyvoice: ready/);
    expect((await bare('phase', 'list')).stdout).toMatch(/^4 +4 +comfyui +20480$/m);
    expect(await bare('phase', 'prepare', '5')).toMatchObject({
      code: EXIT.usage,
      stderr: expect.stringMatching(/no phase "5".\n {2}Known: 2, 3, 4, none\./),
    });
    expect((await bare('service', 'stop', 'cosyvoice')).code).toBe(EXIT.ok);
    expect((await bare('service', 'start', 'cosyvoise')).stderr).toMatch(/Did you mean cosyvoice\?/);
  });

  it('names the modes in the help of mode', async () => {
    expect((await system.cli('mode', '--help')).stdout).toMatch(/Modes: .*recording.*`modes` in the configuration/);
  });
});

describe('a host with nothing configured', { timeout: 60_000 }, () => {
  let system: System;
  beforeAll(async () => {
    system = await startSystem();
  });
  afterAll(() => system.stop());

  it.each([
    { argv: ['phase', 'list'], says: /^There are no phases\. .*configuration/ },
    { argv: ['service', 'list'], says: /^There are no services\. .*configuration/ },
    { argv: ['lease', 'list'], says: /^There are no leases\. `vramflow lease run`/ },
    { argv: ['model', 'ps'], says: /^no model is resident; `vramflow model load/ },
    { argv: ['phase', 'status'], says: /no phase was prepared yet; `vramflow phase prepare/ },
  ])('$argv says what is empty, and how to get one', async ({ argv, says }) => {
    expect(await system.cli(...argv)).toMatchObject({ code: EXIT.ok, stdout: expect.stringMatching(says) });
  });

  it('an operation whose Temporal dies says at once that it waits, goes on with it, and gives up in the end', {
    timeout: 120_000,
  }, async () => {
    onTestFinished(() => system.simulator.faults.clear());
    system.simulator.faults.set('load-slow', { factor: 3 });
    const load = begin(system, 'model', 'load', 'vlm');
    await vi.waitFor(() => expect(load.said()).toMatch(/loading/), 20_000);
    await system.temporal.kill();
    await vi.waitFor(
      () => expect(load.said()).toMatch(/Temporal does not answer at .*: waiting for it, at most 30 s\./),
      5_000,
    );
    await system.temporal.restart();
    expect(await load.code).toBe(EXIT.ok);
    expect(times(/Temporal does not answer/, load.said())).toBe(1);
    expect(load.said()).toMatch(/Temporal answers again\./);

    const waiting = begin(system, 'lease', 'acquire', '--id', 'patient', '--mb', '20000', '--priority', '10');
    await vi.waitFor(() => expect(waiting.said()).toMatch(/lease patient waits/), 20_000);
    await system.temporal.kill();
    expect(await waiting.code).toBe(EXIT.unavailable);
    expect(waiting.said()).toMatch(/error: Temporal has not answered at .* for 30 s\.\n {2}\S/);
    await system.temporal.restart();
    await vi.waitFor(async () => {
      const { leases } = await system.json<{ leases: LeaseState[] }>(['lease', 'list']);
      expect(leases.map(({ id }) => id)).toEqual(['patient']);
    }, 20_000);
    await system.json(['lease', 'release', 'patient']);
  });
});
