/**
 * Edges: what changed on the GPUs since it was last reported (law 9: workflows get edges, not samples).
 * MB means MiB.
 */

export type GpuEdge =
  /** M15: against the value reported last, so that a slow drift is reported too. */
  | { kind: 'vram-changed'; uuid: string; fromMb: number; toMb: number }
  | { kind: 'foreign-process'; uuid: string; pid: number; name: string; came: boolean; usedMb: number | null }
  | { kind: 'gpu-lost' | 'gpu-back'; uuid: string; problem: string | null };

/** `atFirst`: it was there when the first list came, so nobody was told that it came. */
export type KnownStranger = ForeignProcess & { atFirst?: true };

/** The part of a sample that edges come from. */
export interface EdgeSample {
  gpus: { uuid: string; usedMb: number | null; health: 'ok' | 'unknown' | 'lost'; problem: string | null }[];
  /** Null: unknown; then no process came or went. */
  processes: ForeignProcess[] | null;
}

export interface ForeignProcess {
  uuid: string;
  pid: number;
  name: string;
  usedMb: number | null;
}

/** What was reported so far. Plain data. */
export interface EdgeState {
  gpus: Record<string, { reportedMb: number | null; unknownSamples: number; lost: boolean }>;
  /** The strangers known of, by `uuid/pid`; null before the first known list. */
  foreign: Record<string, KnownStranger> | null;
  /** Listed, and of one of vramflow's tenants: it stays so until it leaves the list, though its tenant has ended. */
  ours: string[];
  /** Listed for the first time, and nobody's: the tenant that it belongs to may be found in a moment. */
  suspects: string[];
}

export interface EdgeRules {
  /** M15: default 100 MB. */
  thresholdMb: number;
  /** Processes of vramflow's tenants are no strangers. */
  isOurs: (pid: number) => boolean;
  /** One that was of a tenant, and is nobody's now though it lives. */
  isLeftBehind?: (pid: number) => boolean;
  /** A tenant is being started: a new process may be its, and counts as nobody's until that has ended. */
  isStarting?: () => boolean;
}

/** One odd reading is no loss: a GPU counts as lost after so many samples without a figure. */
export const LOST_AFTER_SAMPLES = 3;

export const noEdgesYet: EdgeState = { gpus: {}, foreign: null, ours: [], suspects: [] };

/** Pure. What the first sample shows is the state that changes are told against; it is no change itself. */
export function findEdges(
  state: EdgeState,
  sample: EdgeSample,
  rules: EdgeRules,
): { edges: GpuEdge[]; state: EdgeState } {
  const edges: GpuEdge[] = [];
  const gpus = { ...state.gpus };
  const shown = new Map(sample.gpus.map((gpu) => [gpu.uuid, gpu]));
  for (const uuid of new Set([...Object.keys(gpus), ...shown.keys()])) {
    const gpu = shown.get(uuid) ?? { uuid, usedMb: null, health: 'unknown', problem: 'The GPU is no longer shown.' };
    const before = gpus[uuid] ?? { reportedMb: null, unknownSamples: 0, lost: false };
    const known = gpu.health === 'ok' && gpu.usedMb !== null;
    const unknownSamples = known ? 0 : Math.min(before.unknownSamples + 1, LOST_AFTER_SAMPLES);
    const lost = gpu.health === 'lost' || (!known && (before.lost || unknownSamples >= LOST_AFTER_SAMPLES));
    if (lost !== before.lost) edges.push({ kind: lost ? 'gpu-lost' : 'gpu-back', uuid, problem: gpu.problem });
    let { reportedMb } = before;
    if (gpu.usedMb !== null && gpu.health === 'ok') {
      if (reportedMb !== null && Math.abs(gpu.usedMb - reportedMb) >= rules.thresholdMb)
        edges.push({ kind: 'vram-changed', uuid, fromMb: reportedMb, toMb: gpu.usedMb });
      if (reportedMb === null || Math.abs(gpu.usedMb - reportedMb) >= rules.thresholdMb) reportedMb = gpu.usedMb;
    }
    gpus[uuid] = { reportedMb, unknownSamples, lost };
  }
  if (sample.processes === null) return { edges, state: { ...state, gpus } };
  const isOurs = (pid: number, key: string): boolean =>
    rules.isOurs(pid) || (state.ours.includes(key) && rules.isLeftBehind?.(pid) !== true);
  const listed = sample.processes.map((process) => ({ process, key: keyOf(process) }));
  const ours = listed.filter(({ process, key }) => isOurs(process.pid, key));
  const nobodys = listed.filter((one) => !ours.includes(one));
  const isTold = (key: string) =>
    state.foreign === null || key in state.foreign || (state.suspects.includes(key) && rules.isStarting?.() !== true);
  const atFirst = (key: string) =>
    state.foreign === null || state.foreign[key]?.atFirst ? { atFirst: true as const } : {};
  const foreign = Object.fromEntries(
    nobodys.filter(({ key }) => isTold(key)).map(({ process, key }) => [key, { ...process, ...atFirst(key) }]),
  );
  edges.push(...strangers(state.foreign, foreign, new Set(ours.map(({ key }) => key))));
  return {
    edges,
    state: {
      gpus,
      foreign,
      ours: ours.map(({ key }) => key),
      suspects: nobodys.filter(({ key }) => !isTold(key)).map(({ key }) => key),
    },
  };
}

const keyOf = ({ uuid, pid }: ForeignProcess): string => `${uuid}/${pid}`;

/**
 * Those that came, then those that went. One that turns out to be ours has gone as a stranger, if it was told of as one: an
 * agent that starts finds its services a moment after their processes.
 */
function strangers(
  before: EdgeState['foreign'],
  now: Record<string, KnownStranger>,
  ours: ReadonlySet<string>,
): GpuEdge[] {
  if (before === null) return [];
  const edge = ({ uuid, pid, name, usedMb }: ForeignProcess, came: boolean): GpuEdge => ({
    kind: 'foreign-process',
    uuid,
    pid,
    name,
    usedMb,
    came,
  });
  return [
    ...Object.entries(now)
      .filter(([key]) => !(key in before))
      .map(([, process]) => edge(process, true)),
    ...Object.entries(before)
      .filter(([key, { atFirst }]) => !(key in now) && !(atFirst && ours.has(key)))
      .map(([, process]) => edge(process, false)),
  ];
}
