import { describe, expect, it } from 'vitest';
import { degradedReasons, statusOf } from '../../src/agent/status.js';
import { runnersLeftBehind } from '../../src/cli/commands/doctor.js';
import type { DeviceObservation } from '../../src/contracts/residency.js';
import type { Status } from '../../src/contracts/status.js';
import { cpu, gpu } from '../domain/planner/hosts.js';
import { FakeDriver, managedBy } from './fakeDriver.js';
import { agentOnFakes, CARD, CARD_MB, type Pieces } from './pieces.js';

const NAME = 'qwen3-vl:8b';
const VLM = `model/${NAME}`;

const shown = ({ agent }: Pieces): Status => statusOf(agent, '0.1.0', Date.now());
const vlmIn = (status: Status) => status.tenants.find((tenant) => tenant.id === VLM);

async function look(pieces: Pieces): Promise<Status> {
  await pieces.agent.watch.look();
  pieces.card.show();
  return shown(pieces);
}

describe('the status (M14)', () => {
  it('is complete at first: idle, unloaded, CLIP on the CPU', async () => {
    const pieces = await agentOnFakes();
    expect(await look(pieces)).toMatchObject({
      execution_mode: 'idle',
      vlm_state: 'unloaded',
      vlm_model: NAME,
      clip_device: 'cpu',
      vram: {
        total_mb: CARD_MB,
        used_mb: 800,
        free_mb: CARD_MB - 800,
        gpu_name: 'Test GPU',
        gpu_utilization_percent: 3,
      },
      idle_timeout_seconds: 300,
      last_vlm_request: null,
      degraded_mode: false,
      degraded_reason: null,
      turns: [],
      clip_part: 'ready',
    });
  });

  it('says what holds the card: nothing is counted twice', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.put(NAME);
    pieces.card.strangers = [{ uuid: CARD, pid: 9, name: 'game', usedMb: 3_000 }];
    await pieces.agent.embedder.move('cuda', CARD, AbortSignal.timeout(5_000));
    const status = await look(pieces);
    expect(status).toMatchObject({ vlm_state: 'loaded', clip_device: 'cuda', vram: { used_mb: 15_052 } });
    expect(status.gpus[0]).toMatchObject({ foreignMb: 3_800 });
    expect(vlmIn(status)).toMatchObject({ holdings: [{ device: CARD, mb: 10_752 }], chargeSource: 'measured' });
  });

  it('P4: a model that has answered holds what the driver shows, and is charged what Ollama estimates', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.put(NAME);
    pieces.card.shownShare = 0.98;
    const [estimate, shown] = [10_752, 10_537];
    expect(vlmIn(await look(pieces))).toMatchObject({ holdings: [{ mb: estimate }], chargeMb: estimate });
    pieces.agent.markProven(VLM);
    const status = await look(pieces);
    expect(vlmIn(status)).toMatchObject({ holdings: [{ mb: shown }], chargeMb: estimate, chargeSource: 'measured' });
    expect(status.gpus[0]).toMatchObject({ usedMb: 800 + shown, foreignMb: 800 });
  });

  it('law 1: an Ollama that is away is unseen only where the list of processes is known and shows none of it', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.isAway = true;
    const unseen = async () => (await look(pieces)).drivers.find(({ id }) => id === 'ollama')?.unseen === true;
    expect(await unseen()).toBe(true);
    pieces.card.strangers = [{ uuid: CARD, pid: 9, name: 'unknown', usedMb: 4_000 }];
    expect(await unseen()).toBe(false);
    pieces.card.strangers = [];
    pieces.card.listed = false;
    expect(await unseen()).toBe(false);
  });

  it('pain 5: a runner that its server left behind is nobody’s, and `doctor` says how to end it', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.put(NAME);
    const left = { uuid: CARD, pid: 9, name: '/usr/bin/ollama', usedMb: 10_752 };
    pieces.card.strangers = [{ ...left, descent: { verb: 'runner', parent: 'systemd' } }];
    const status = await look(pieces);
    const owners = (status.processes ?? []).map(({ pid, owner }) => [pid, owner]);
    expect(owners).toEqual([
      [500, VLM],
      [9, 'left-behind'],
    ]);
    expect(status.gpus[0]?.foreignMb).toBe(800 + 10_752);
    expect(runnersLeftBehind(status)).toMatchObject([{ message: expect.stringContaining('`kill 9`') as string }]);
    expect(runnersLeftBehind({ ...status, processes: null })).toEqual([]);
  });

  it('shows what an operation does, who holds the turn, and the last request', async () => {
    const pieces = await agentOnFakes();
    const { agent } = pieces;
    agent.setWorking(VLM, 'loading');
    agent.uses.touch(VLM);
    await agent.fence.enter({ operation: { workflowId: 'mode/x', runId: 'r' }, epochs: { [CARD]: 1 } });
    const status = await look(pieces);
    expect(status.vlm_state).toBe('loading');
    expect(status.turns).toMatchObject([{ workflow_id: 'mode/x', devices: [CARD] }]);
    expect(Date.parse(status.last_vlm_request ?? '')).toBeGreaterThan(Date.now() - 5_000);
    agent.setWorking(VLM, 'unloading');
    expect(shown(pieces).vlm_state).toBe('unloading');
  });

  it('keeps mode and error over a restart', async () => {
    const pieces = await agentOnFakes();
    pieces.agent.setMode('recording');
    pieces.agent.setError(VLM, 'four attempts');
    const next = await agentOnFakes({ folder: pieces.folder });
    expect(await look(next)).toMatchObject({ execution_mode: 'recording', vlm_state: 'error' });
    next.agent.setError(VLM, null);
    expect(shown(next).vlm_state).toBe('unloaded');
  });

  it('is degraded while Ollama is away; what was there is unknown, not free (M16, law 1)', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.put(NAME);
    await look(pieces);
    pieces.ollama.isAway = true;
    const status = await look(pieces);
    expect(status).toMatchObject({ degraded_mode: true, degraded_reason: expect.stringContaining('Nobody listens') });
    expect(vlmIn(status)).toMatchObject({ state: 'unknown', holdings: [{ device: CARD }] });
  });

  it('is degraded while what runs a service of the configuration is away, and recovers by itself', async () => {
    const driver = new FakeDriver();
    const pieces = await agentOnFakes({ services: [managedBy(driver)] });
    expect(await look(pieces)).toMatchObject({ degraded_mode: false });
    driver.problem = () => 'No Docker daemon listens. Start it.';
    expect(await look(pieces)).toMatchObject({
      degraded_mode: true,
      degraded_reason: 'native services cannot be managed: No Docker daemon listens. Start it.',
    });
    driver.problem = () => null;
    expect(await look(pieces)).toMatchObject({ degraded_mode: false, degraded_reason: null });
  });

  it('counts memory that is not proven free as held by its tenant', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.put(NAME);
    await look(pieces);
    const { agent } = pieces;
    agent.reclaims.begin(VLM, {
      holdings: [{ device: CARD, mb: 10_752 }],
      ownPids: agent.pids(VLM),
      pidsOfOthers: [],
      sample: agent.sampler.latest(),
      measured: true,
    });
    pieces.ollama.drop(NAME);
    pieces.card.stuckMb = 10_752;
    agent.reclaims.gone(VLM);
    const status = await look(pieces);
    expect(vlmIn(status)).toMatchObject({ state: 'unloading', holdings: [{ device: CARD, mb: 10_752 }] });
    expect(status.gpus[0]).toMatchObject({ foreignMb: 800 });
    agent.reclaims.fail(VLM);
    expect(shown(pieces)).toMatchObject({
      degraded_mode: true,
      degraded_reason: expect.stringContaining('quarantined'),
    });
  });

  it('is degraded while the mode lacks what something pushed out, also over a restart (law 7)', async () => {
    const pieces = await agentOnFakes();
    pieces.agent.setMode('recording');
    pieces.agent.setDisplaced({ [VLM]: 'lease train (python)' });
    const next = await agentOnFakes({ folder: pieces.folder });
    expect(await look(next)).toMatchObject({
      degraded_mode: true,
      degraded_reason: `mode recording wants ${VLM}, displaced by lease train (python); \`vramflow mode recording\` brings it back`,
    });
    next.ollama.put(NAME);
    expect(await look(next)).toMatchObject({ degraded_mode: false });
    next.ollama.drop(NAME);
    expect(await look(next)).toMatchObject({ degraded_mode: false });
  });

  it('has no VRAM while the card cannot be read, and is degraded then', async () => {
    const pieces = await agentOnFakes();
    pieces.card.readable = false;
    expect(await look(pieces)).toMatchObject({
      vram: null,
      degraded_mode: true,
      degraded_reason: 'Test GPU: it cannot be read',
    });
  });

  it('says once what is wrong with several GPUs', async () => {
    const observed = (await agentOnFakes()).agent.observation();
    const gpus = (problems: string[]) =>
      problems.map((problem, n) => gpu({ id: `GPU-${n}`, name: 'Alike', health: 'lost', problem }));
    const reasons = (devices: DeviceObservation[]) =>
      degradedReasons({ ...observed, devices: [...devices, cpu] }, 'nvidia-smi', null);
    expect(reasons(gpus(Array(5).fill('it is lost: reboot')))).toEqual(['all 5 GPUs: it is lost: reboot']);
    expect(reasons(gpus(['it is lost: reboot', 'it is hot', 'it is lost: reboot']))).toEqual([
      'Alike GPU-0 and Alike GPU-2: it is lost: reboot',
      'Alike GPU-1: it is hot',
    ]);
  });

  it('is degraded while no GPU has been shown yet', async () => {
    const pieces = await agentOnFakes();
    const empty = { takenAt: 0, gpus: [], processes: null, problem: null, ageMs: 0, stale: true };
    pieces.agent.sampler.latest = () => empty;
    expect(shown(pieces)).toMatchObject({ vram: null, degraded_mode: true, degraded_reason: expect.any(String) });
  });

  it('shows declared figures as such (P9)', async () => {
    const pieces = await agentOnFakes({ readerKind: 'declared' });
    pieces.ollama.put(NAME);
    const status = await look(pieces);
    expect(status.gpus[0]).toMatchObject({ usedMb: 10_752, source: 'declared', health: 'ok' });
    expect(status).toMatchObject({ degraded_mode: true, degraded_reason: expect.stringContaining('declared') });
  });

  it('shows a model that someone else loaded', async () => {
    const pieces = await agentOnFakes();
    pieces.ollama.put('mistral:7b', { sizeMb: 5_000, vramMb: 5_000 });
    const status = await look(pieces);
    expect(status.tenants.find((tenant) => tenant.id === 'model/mistral:7b')).toMatchObject({
      configured: false,
      state: 'resident',
      priority: 50,
      allowCpu: true,
    });
  });
});
