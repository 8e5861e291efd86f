import { CPU, modelTenant } from '../contracts/names.js';
import type { DeviceObservation, HostObservation, TenantObservation } from '../contracts/residency.js';
import type { GpuProcessStatus, Status, VlmState, VramStatus } from '../contracts/status.js';
import { isLeftBehind, isOllamas } from '../domain/attribution.js';
import { lacksOfMode } from '../domain/displacement.js';
import { ollamaTrouble } from '../domain/ollamaTrouble.js';
import { phaseProblem } from '../domain/phases.js';
import { labelOf } from '../domain/planner/hostView.js';
import { listed, saidOnce } from '../domain/planner/wording.js';
import { embedderDevice } from '../domain/residency.js';
import type { Agent } from './agent.js';

const VLM_STATES: Record<TenantObservation['state'], VlmState> = {
  absent: 'unloaded',
  resident: 'loaded',
  loading: 'loading',
  unloading: 'unloading',
  unhealthy: 'error',
  error: 'error',
  unknown: 'error',
};

/** The whole status (M14), from memory: no I/O. */
export function statusOf(agent: Agent, version: string, startedAt: number): Status {
  const observed = agent.observation();
  const { policy } = agent;
  const vlm = observed.tenants.find((tenant) => tenant.id === modelTenant(policy.vlmModel));
  const lastUse = agent.uses.lastUse(modelTenant(policy.vlmModel));
  const { journal, uses, learned, unfinished } = agent;
  const disk = [agent, journal, uses, learned, unfinished, agent.services.runs]
    .map((part) => part.problem())
    .filter((problem) => problem !== null);
  const reasons = [
    ...degradedReasons(observed, agent.options.readerKind, agent.options.readerReason),
    ...lacksOfMode(agent.mode, policy.modes[agent.mode], agent.displaced, observed.tenants),
    ...disk,
  ];
  const model = policy.models.find((one) => one.name === policy.vlmModel);
  return {
    execution_mode: agent.mode,
    vlm_state: VLM_STATES[vlm?.state ?? 'absent'],
    vlm_model: policy.vlmModel,
    clip_device: embedderDevice(observed),
    vram: vramOf(observed),
    idle_timeout_seconds: model?.idleTimeoutSeconds ?? null,
    last_vlm_request: lastUse === null ? null : new Date(lastUse).toISOString(),
    degraded_mode: reasons.length > 0,
    degraded_reason: reasons.length > 0 ? reasons.join('; ') : null,
    host: observed.host,
    phase: agent.phase,
    phase_problem: phaseProblem(policy, agent.phase, observed.tenants),
    simulated: observed.simulated,
    turns: agent.fence.holders().map((holder) => ({
      workflow_id: holder.operation.workflowId,
      devices: holder.devices,
      for_ms: Math.round(agent.now() - holder.sinceMs),
    })),
    clip_part: agent.embedder.part(),
    gpus: observed.devices.filter((device) => device.id !== CPU),
    tenants: observed.tenants,
    drivers: observed.drivers,
    processes: processesOf(agent, observed),
    agent: { instance: agent.options.instance, pid: process.pid, uptime_ms: Date.now() - startedAt, version },
  };
}

/** P1: every GPU process that the driver lists, with its memory and whose it is. */
function processesOf(agent: Agent, observed: HostObservation): GpuProcessStatus[] | null {
  // The inner one is said of what is nested.
  const outerFirst = [...observed.tenants].sort((a, b) => Number('inside' in a) - Number('inside' in b));
  const owners = new Map(outerFirst.flatMap(({ id }) => agent.pids(id).map((pid) => [pid, id] as const)));
  const { processes } = agent.sampler.latest();
  if (processes === null) return null;
  return processes.map((process) => {
    const { uuid: gpu, pid, name, usedMb } = process;
    const nobodys = isLeftBehind(process) ? 'left-behind' : isOllamas(process) ? 'ollama' : 'foreign';
    return { gpu, pid, name, used_mb: usedMb, owner: owners.get(pid) ?? nobodys };
  });
}

/** Why the host is degraded: Ollama (M16) or what runs the services away, no GPU (M17), figures unknown or declared (P9). */
export function degradedReasons(
  observed: HostObservation,
  readerKind: 'nvidia-smi' | 'none' | 'declared',
  readerReason: string | null,
): string[] {
  const ollama = ollamaTrouble(observed.drivers);
  const reasons = ollama === null ? [] : [`Ollama is not available: ${ollama}`];
  for (const { id, available, reason } of observed.drivers) {
    if (available || (id !== 'docker' && id !== 'native')) continue;
    reasons.push(`${id} services cannot be managed: ${reason ?? 'no answer'}`);
  }
  if (readerKind === 'none') reasons.push(`no GPU, CPU only: ${readerReason ?? 'none was found'}`);
  if (readerKind === 'declared') reasons.push('no GPU reader: footprints are declared, not measured');
  if (readerKind === 'nvidia-smi' && observed.devices.every((device) => device.id === CPU)) {
    reasons.push('no GPU is shown (yet): what is free is unknown');
  }
  const gpus = observed.devices.filter((device) => device.id !== CPU);
  const said = gpus.flatMap((device) => {
    const of = labelOf(device, gpus);
    return [
      ...(device.health === 'ok' ? [] : [{ of, why: device.problem ?? device.health }]),
      ...(device.quarantine === null ? [] : [{ of, why: `quarantined: ${device.quarantine}` }]),
    ];
  });
  for (const { of, why } of saidOnce(said)) {
    const all = of.length > 1 && of.length === gpus.length;
    reasons.push(`${all ? `all ${of.length} GPUs` : listed(of)}: ${why}`);
  }
  return reasons;
}

/** The sum over GPUs; null where a figure is unknown, which is a degraded state. */
function vramOf(observed: HostObservation): VramStatus | null {
  const gpus = observed.devices.filter((device) => device.id !== CPU);
  const known = gpus.filter(isKnown);
  if (gpus.length === 0 || known.length < gpus.length) return null;
  const total = known.reduce((sum, gpu) => sum + gpu.totalMb, 0);
  const used = known.reduce((sum, gpu) => sum + gpu.usedMb, 0);
  return {
    total_mb: total,
    used_mb: used,
    free_mb: total - used,
    gpu_name: known.map((gpu) => gpu.name).join(' + '),
    gpu_utilization_percent: known.length === 1 ? (known[0]?.utilizationPercent ?? null) : meanOf(known),
  };
}

const isKnown = (gpu: DeviceObservation): gpu is DeviceObservation & { totalMb: number; usedMb: number } =>
  gpu.totalMb !== null && gpu.usedMb !== null && gpu.health === 'ok';

function meanOf(gpus: DeviceObservation[]): number | null {
  const known = gpus.map((gpu) => gpu.utilizationPercent).filter((percent) => percent !== null);
  return known.length === gpus.length
    ? Math.round(known.reduce((sum, percent) => sum + percent, 0) / known.length)
    : null;
}
