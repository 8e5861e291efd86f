/** Ollama as a service (P12), as its agent sees it: models are inside that service. */
import { describe, expect, it } from 'vitest';
import { statusOf } from '../../src/agent/status.js';
import type { HostPolicy } from '../../src/contracts/policy.js';
import { absent, FakeDriver, managedBy } from './fakeDriver.js';
import { agentOnFakes, CARD, CARD_MB, type Pieces } from './pieces.js';

const NAME = 'qwen3-vl:8b';
const VLM = `model/${NAME}`;
const SERVICE = 'service/one';
const DESKTOP_MB = 800;
const VLM_MB = 10_752;
const services: HostPolicy['services'] = [
  {
    name: 'one',
    driver: 'native',
    declaredMb: 18_432,
    serves: 'ollama',
    priority: 10,
    pinned: false,
    startTimeoutSeconds: 5,
    stopTimeoutSeconds: 5,
  },
];

async function hostWithServer(): Promise<Pieces & { driver: FakeDriver; start: () => Promise<unknown> }> {
  const driver = new FakeDriver();
  const pieces = await agentOnFakes({ policy: { services }, services: [managedBy(driver)] });
  const { agent, ollama } = pieces;
  ollama.isAway = true;
  await agent.services.look(AbortSignal.timeout(5_000));
  return {
    ...pieces,
    driver,
    start: async () => {
      ollama.isAway = false;
      return agent.services.start('one', [CARD], AbortSignal.timeout(5_000));
    },
  };
}

async function seen({ agent, card }: Pieces) {
  await agent.watch.look();
  card.show();
  const status = statusOf(agent, '0.1.0', Date.now());
  const find = (id: string) => status.tenants.find((tenant) => tenant.id === id);
  return { status, model: find(VLM), service: find(SERVICE), gpu: status.gpus[0] };
}

describe('an Ollama that is a service of its host', () => {
  it('what it holds counts once, as the service, whether or not its processes are known', async () => {
    const pieces = await hostWithServer();
    const { agent, ollama, card, driver, start } = pieces;
    await start();
    ollama.put(NAME);
    // Of a server that a container runs, the runner is one of its processes; here it is not seen yet.
    card.strangers = [{ uuid: CARD, pid: 1, name: 'server', usedMb: 300 }];
    const early = await seen(pieces);
    expect(early.service).toMatchObject({
      state: 'resident',
      holdings: [{ device: CARD, mb: VLM_MB }],
      chargeMb: 18_432,
    });
    expect(early.model).toMatchObject({ state: 'resident', holdings: [{ device: CARD, mb: VLM_MB }], inside: SERVICE });
    const [runner = 0] = agent.pids(VLM);
    driver.sight = { ...driver.sight, pids: [1, runner] };
    const { status, service, gpu } = await seen(pieces);
    expect(service).toMatchObject({ holdings: [{ device: CARD, mb: VLM_MB + 300 }] });
    expect(gpu).toMatchObject({ usedMb: DESKTOP_MB + VLM_MB + 300, foreignMb: DESKTOP_MB });
    expect(status).toMatchObject({ degraded_mode: false, vram: { free_mb: CARD_MB - DESKTOP_MB - VLM_MB - 300 } });
    expect(status.processes).toMatchObject([
      { pid: runner, owner: VLM },
      { pid: 1, owner: SERVICE },
    ]);
  });

  it('the runner is proof for the model and for its service, of none it is another tenant', async () => {
    const pieces = await hostWithServer();
    const { agent, ollama, start } = pieces;
    await start();
    ollama.put(NAME);
    await seen(pieces);
    const [runner] = agent.pids(VLM);
    expect(agent.pids(SERVICE)).toContain(runner);
    expect(agent.pidsOfOthers(VLM)).not.toContain(runner);
    expect(agent.pidsOfOthers(SERVICE)).not.toContain(runner);
  });

  it('stopped: its models have ended, and the host is not degraded', async () => {
    const pieces = await hostWithServer();
    const { agent, ollama, changes, start } = pieces;
    const first = await seen(pieces);
    expect(first.status).toMatchObject({ degraded_mode: false, vlm_state: 'unloaded' });
    await start();
    ollama.put(NAME);
    expect((await seen(pieces)).status.vlm_state).toBe('loaded');
    changes.length = 0;
    await agent.services.stop('one', { graceMs: 100, endMs: 5_000, signal: AbortSignal.timeout(5_000) });
    ollama.isAway = true;
    ollama.drop(NAME);
    const { status, model, gpu } = await seen(pieces);
    expect(status).toMatchObject({ degraded_mode: false, degraded_reason: null, vlm_state: 'unloaded' });
    expect(status.drivers[0]).toMatchObject({ id: 'ollama', available: false, reason: 'its service one is stopped' });
    expect(model).toMatchObject({ state: 'absent', holdings: [] });
    expect(gpu).toMatchObject({ foreignMb: DESKTOP_MB });
    expect(changes).toEqual([{ kind: 'gone', tenant: VLM, died: false, expired: false, stopped: true }]);
  });

  it('died: its models have died with it, and the host is degraded', async () => {
    const pieces = await hostWithServer();
    const { ollama, changes, driver, start } = pieces;
    await start();
    ollama.put(NAME);
    await seen(pieces);
    changes.length = 0;
    ollama.isAway = true;
    driver.die({ code: 1, signal: null, reason: 'exit code 1' });
    const { status, model } = await seen(pieces);
    expect(status).toMatchObject({ degraded_mode: true, degraded_reason: expect.stringContaining('has failed') });
    expect(model?.state).toBe('absent');
    expect(changes).toEqual([{ kind: 'gone', tenant: VLM, died: true, expired: false }]);
  });

  it('nobody can tell whether it runs: its Ollama is asked all the same (law 1)', async () => {
    const pieces = await hostWithServer();
    pieces.driver.sight = { ...absent, state: 'unknown' };
    const { status, model } = await seen(pieces);
    expect(status).toMatchObject({ degraded_mode: true, degraded_reason: expect.stringContaining('Nobody listens') });
    expect(model?.state).toBe('unknown');
  });
});
