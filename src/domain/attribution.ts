/** Who holds what on which GPU: joins Ollama's word (how much) with the driver's (which process, where). Pure. */
import { CPU, UNNAMED } from '../contracts/names.js';
import type { Holding } from '../contracts/residency.js';

export interface LoadedModel {
  /** The tenant id. */
  id: string;
  /** All of it, and the part that Ollama says is on GPUs, MB. */
  sizeMb: number;
  vramMb: number;
  /** It has answered since it was listed, so what its runner holds does not grow any more. */
  settled: boolean;
}

export interface VramProcess {
  gpu: string;
  pid: number;
  name: string;
  usedMb: number | null;
  /** Its first argument and the name of the process that it is a child of, where that can be seen. */
  descent?: { verb: string; parent: string };
}

export interface Attribution {
  holdings: Holding[];
  /**
   * The processes that hold it, and those of the same size that could as well be it; empty where the driver's list
   * does not show them.
   */
  pids: number[];
}

/** Runners whose sizes differ by less than this share cannot be told apart by what Ollama says of its models. */
const SAME_SIZE = 0.25;

/** Below this share a rest in system memory is rounding, not offload. */
const WHOLE = 0.99;

/** True when Ollama says that all of the model is on GPUs. */
export const isWhole = (model: { sizeMb: number; vramMb: number }): boolean => model.vramMb >= model.sizeMb * WHOLE;

/** The driver's figure of a settled runner counts from this share of Ollama's estimate on (0.98 seen on an H200, 2026-11-26). */
const NEAR = 0.75;

const OLLAMA = /ollama/i;
/** Programs of Ollama's, without their folder, on NixOS `.ollama-wrapped`; not an interpreter in a folder that is called so. */
const OLLAMA_PROGRAM = /^\.?(?:ollama|llama-server)/i;
const programOf = (name: string): string => name.slice(name.lastIndexOf('/') + 1);

type Seen = Pick<VramProcess, 'name' | 'descent'>;

const runsOllama = (name: string): boolean => OLLAMA.test(name) && OLLAMA_PROGRAM.test(programOf(name));

/** A process of Ollama's, by its name: its API does not tell pids. */
export const isOllamas = (process: Seen): boolean => runsOllama(process.name) && !isLeftBehind(process);

/** For proof that none is there. Also one that is left behind, one in a folder called so, and one without a known name. */
export const mayBeOllamas = ({ name }: { name: string }): boolean => OLLAMA.test(name) || name === UNNAMED;

/** One that has a model. The server looks at the GPUs before a load, and is listed for that moment (518 MB on an H200, 2026-11-26). */
export const isRunner = (process: Seen): boolean => isOllamas(process) && process.descent?.verb !== 'serve';

/**
 * A runner whose server has ended without it (kill -9): no server knows it any more, and it holds its memory until it is
 * ended.
 */
export const isLeftBehind = ({ name, descent }: Seen): boolean =>
  runsOllama(name) && descent !== undefined && descent.verb !== 'serve' && !OLLAMA_PROGRAM.test(descent.parent);

/**
 * Ollama does not say where a model is; its runners' processes do. Each model takes the runners whose memory is
 * nearest to its own. Without a process list all is on the GPU with the most memory in use.
 */
export function attributeModels(
  models: LoadedModel[],
  gpus: { id: string; usedMb: number | null }[],
  processes: VramProcess[] | null,
): Record<string, Attribution> {
  const runners = byPid((processes ?? []).filter((process) => isRunner(process) && process.usedMb !== null));
  const sizes = new Map([...runners].map(([pid, parts]) => [pid, sizeOf(parts)]));
  const result: Record<string, Attribution> = {};
  for (const model of [...models].sort((a, b) => b.vramMb - a.vramMb || a.id.localeCompare(b.id))) {
    const onCpu = isWhole(model) ? [] : [{ device: CPU, mb: Math.round(model.sizeMb - model.vramMb) }];
    const { holdings, pids } = onGpus(model, gpus, runners);
    const own = pids.reduce((sum, pid) => sum + (sizes.get(pid) ?? 0), 0);
    const alike = [...sizes].filter(([, mb]) => own > 0 && Math.abs(mb - own) < own * SAME_SIZE).map(([pid]) => pid);
    result[model.id] = { holdings: [...holdings, ...onCpu], pids: [...new Set([...pids, ...alike])] };
  }
  return result;
}

function onGpus(
  model: LoadedModel,
  gpus: { id: string; usedMb: number | null }[],
  runners: Map<number, VramProcess[]>,
): Attribution {
  if (model.vramMb <= 0) return { holdings: [], pids: [] };
  let best: { pid: number; parts: VramProcess[]; distance: number } | null = null;
  for (const [pid, parts] of runners) {
    const distance = Math.abs(sizeOf(parts) - model.vramMb);
    if (best === null || distance < best.distance) best = { pid, parts, distance };
  }
  if (best !== null) {
    runners.delete(best.pid);
    const { parts } = best;
    const holdings = parts.map((part) => ({
      device: part.gpu,
      mb: heldMb(part.usedMb ?? 0, model, parts.length === 1),
    }));
    return { holdings, pids: [best.pid] };
  }
  const fullest = [...gpus].sort((a, b) => (b.usedMb ?? 0) - (a.usedMb ?? 0) || a.id.localeCompare(b.id))[0];
  return { holdings: [{ device: fullest?.id ?? CPU, mb: Math.round(model.vramMb) }], pids: [] };
}

const sizeOf = (parts: VramProcess[]): number => parts.reduce((sum, part) => sum + (part.usedMb ?? 0), 0);

/**
 * While it loads, a runner on one GPU holds at least what Ollama says, which the driver's list shows late; once it is
 * settled, and over several GPUs, the driver's figures count.
 */
function heldMb(usedMb: number, { vramMb, settled }: LoadedModel, onOneGpu: boolean): number {
  if (!onOneGpu || (settled && usedMb >= vramMb * NEAR)) return usedMb;
  return Math.max(usedMb, Math.round(vramMb));
}

function byPid(processes: VramProcess[]): Map<number, VramProcess[]> {
  const result = new Map<number, VramProcess[]>();
  for (const process of processes) result.set(process.pid, [...(result.get(process.pid) ?? []), process]);
  return result;
}

/**
 * A model whose memory is nowhere: every runner on the list is that of another one, and no unexplained memory could be
 * its own.
 * @param ofOthers the pids of the runners that are known as those of other models
 */
export function isGhost(
  vramMb: number,
  gpus: { id: string; usedMb: number | null }[],
  processes: VramProcess[] | null,
  ofOthers: number[] = [],
): boolean {
  if (vramMb <= 0 || processes === null) return false;
  if (processes.some((process) => isRunner(process) && !ofOthers.includes(process.pid))) return false;
  if (gpus.some((gpu) => gpu.usedMb === null)) return false;
  const used = gpus.reduce((sum, gpu) => sum + (gpu.usedMb ?? 0), 0);
  // One whose name the driver does not tell may be its runner.
  const explained = processes.reduce((sum, { name, usedMb }) => sum + (name === UNNAMED ? 0 : (usedMb ?? 0)), 0);
  return used - explained < vramMb / 2;
}

/** What nobody of ours holds on a GPU, MB; null while the used memory is unknown (law 1). */
export const foreignMb = (usedMb: number | null, oursMb: number): number | null =>
  usedMb === null ? null : Math.max(0, Math.round(usedMb - oursMb));
