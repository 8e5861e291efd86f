import type { CardSample, GpuSample, ProcessSample } from './sample.js';
import type { SmiRequest } from './smiArguments.js';

/**
 * What nvidia-smi does with one sample. `pieces` go to stdout one after the other, as separate writes.
 * Exit codes are those of its manual page; its messages go to stdout.
 */
export type SmiStep =
  | { readonly kind: 'print'; readonly pieces: readonly string[] }
  | { readonly kind: 'hang' }
  | { readonly kind: 'exit'; readonly code: number; readonly stdout: string; readonly stderr: string };

/** What the real program says when no driver answers; exit code 9. */
export const NO_DRIVER: SmiStep = exit(
  9,
  "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. " +
    'Make sure that the latest NVIDIA driver is installed and running.\n\n',
);

const NOT_AVAILABLE = '[N/A]';
const NO_PERMISSION = '[Insufficient Permissions]';

interface Field<T> {
  readonly value: (subject: T, sample: GpuSample) => string;
  readonly unit?: string;
  /** Fields that a fault of this group touches. */
  readonly group?: 'memory' | 'utilization';
}

const GPU_FIELDS: Readonly<Record<string, Field<CardSample>>> = {
  timestamp: { value: () => timestamp(new Date()) },
  index: { value: (card) => String(card.index) },
  uuid: { value: (card) => card.uuid },
  name: { value: (card) => card.name },
  driver_version: { value: (_, sample) => sample.driverVersion },
  'memory.total': { value: (card) => String(card.totalMb), unit: 'MiB', group: 'memory' },
  'memory.used': { value: (card) => String(card.usedMb), unit: 'MiB', group: 'memory' },
  'memory.free': { value: (card) => String(card.freeMb), unit: 'MiB', group: 'memory' },
  'memory.reserved': { value: (card) => String(card.reservedMb), unit: 'MiB', group: 'memory' },
  'utilization.gpu': { value: (card) => String(card.utilizationPercent), unit: '%', group: 'utilization' },
  'utilization.memory': {
    value: (card) => String(Math.round(card.utilizationPercent / 2)),
    unit: '%',
    group: 'utilization',
  },
  'temperature.gpu': { value: (card) => String(card.temperatureC) },
  'power.draw': { value: (card) => card.powerW.toFixed(2), unit: 'W' },
  'fan.speed': { value: (card) => (card.fanPercent === null ? NOT_AVAILABLE : String(card.fanPercent)), unit: '%' },
  // GeForce cards cannot be partitioned and say so.
  'mig.mode.current': { value: (card, sample) => (concerns(sample, 'smi-mig', card.uuid) ? 'Enabled' : NOT_AVAILABLE) },
  compute_cap: { value: (card) => card.computeCapability },
  'pci.bus_id': { value: (card) => busId(card) },
};

const APP_FIELDS: Readonly<Record<string, Field<ProcessSample>>> = {
  timestamp: { value: () => timestamp(new Date()) },
  gpu_uuid: { value: (process) => process.gpu },
  gpu_name: {
    value: (process, sample) => sample.cards.find((card) => card.uuid === process.gpu)?.name ?? NOT_AVAILABLE,
  },
  pid: { value: (process) => String(process.pid) },
  process_name: { value: (process) => process.name },
  used_gpu_memory: { value: (process) => String(process.mb), unit: 'MiB', group: 'memory' },
  used_memory: { value: (process) => String(process.mb), unit: 'MiB', group: 'memory' },
};

/** The step for one sample. `turn` counts the outputs of this process from 0. */
export function smiStep(sample: GpuSample, request: SmiRequest, turn: number): SmiStep {
  const started = turn > 0;
  if (!started && 'smi-missing' in sample.faults) return exit(127, '', 'nvidia-smi: command not found\n');
  if ('smi-driver-mismatch' in sample.faults) {
    const library = sample.driverVersion.split('.').slice(0, 2).join('.');
    return exit(18, `Failed to initialize NVML: Driver/library version mismatch\nNVML library version: ${library}\n`);
  }
  if ('smi-hang' in sample.faults) return { kind: 'hang' };
  const lost = sample.cards.find((card) => concerns(sample, 'smi-gpu-lost', card.uuid));
  if (lost !== undefined && !started) {
    const handle = `Unable to determine the device handle for GPU ${busId(lost)}: GPU is lost. `;
    return exit(15, `${handle}Reboot the system to recover this GPU\n`);
  }
  const cards = sample.cards.filter(
    ({ uuid, index }) => request.gpu === null || request.gpu === uuid || request.gpu === String(index),
  );
  if (cards.length === 0) return exit(6, 'No devices were found\n');
  const text = request.query === 'list' ? cards.map(listLine).join('') : csv(sample, cards, request, started);
  if (text === null) return exit(2, `Field "${unknownField(request)}" is not a valid field to query.\n\n`);
  return { kind: 'print', pieces: 'smi-cut-lines' in sample.faults ? cut(text, turn) : [text] };
}

function csv(sample: GpuSample, cards: readonly CardSample[], request: SmiRequest, started: boolean): string | null {
  if (unknownField(request) !== undefined) return null;
  const header =
    request.header && !started ? `${request.fields.map((field) => title(field, request)).join(', ')}\n` : '';
  if (request.query === 'gpu') {
    return header + cards.map((card) => row(sample, card, card.uuid, GPU_FIELDS, request)).join('');
  }
  const shown = new Set(cards.map(({ uuid }) => uuid));
  const processes = sample.processes.filter(({ gpu }) => shown.has(gpu));
  return header + processes.map((process) => row(sample, process, process.gpu, APP_FIELDS, request)).join('');
}

function row<T>(
  sample: GpuSample,
  subject: T,
  gpu: string,
  known: Readonly<Record<string, Field<T>>>,
  request: SmiRequest,
): string {
  const values = request.fields.map((name) => {
    const field = known[name];
    if (field === undefined) return NOT_AVAILABLE;
    const odd = oddValue(sample, gpu, name, field.group);
    if (odd !== null) return odd;
    const value = field.value(subject, sample);
    return request.units && field.unit !== undefined && value !== NOT_AVAILABLE ? `${value} ${field.unit}` : value;
  });
  return `${values.join(', ')}\n`;
}

/** What stands in place of a value under a fault; null when the value is shown. */
function oddValue(sample: GpuSample, gpu: string, name: string, group: Field<unknown>['group']): string | null {
  const is = (fault: string): boolean => concerns(sample, fault, gpu);
  if (is('smi-gpu-lost') && !['timestamp', 'index', 'uuid', 'gpu_uuid', 'name'].includes(name)) return '[GPU is lost]';
  if (group === undefined) return null;
  if (is('smi-na')) return NOT_AVAILABLE;
  if (is('smi-err')) return 'ERR!';
  if (is('smi-no-permission') && group === 'memory') return NO_PERMISSION;
  if (is('smi-mig')) return group === 'memory' ? NO_PERMISSION : NOT_AVAILABLE;
  return null;
}

function concerns(sample: GpuSample, fault: string, gpu: string): boolean {
  const params = sample.faults[fault];
  return params !== undefined && (params.gpu === undefined || params.gpu === gpu);
}

function unknownField(request: SmiRequest): string | undefined {
  if (request.query === 'list') return undefined;
  const known = request.query === 'gpu' ? GPU_FIELDS : APP_FIELDS;
  return request.fields.find((field) => !(field in known));
}

function title(field: string, request: SmiRequest): string {
  const unit = (request.query === 'gpu' ? GPU_FIELDS : APP_FIELDS)[field]?.unit;
  return unit === undefined ? field : `${field} [${unit}]`;
}

function listLine(card: CardSample): string {
  return `GPU ${card.index}: ${card.name} (UUID: ${card.uuid})\n`;
}

/** In turn: cut and ended, in two writes, cut with the next line stuck to it. */
function cut(text: string, turn: number): string[] {
  const at = Math.ceil(text.length * 0.6);
  if (turn % 3 === 0) return [`${text.slice(0, at)}\n`];
  if (turn % 3 === 1) return [text.slice(0, at), text.slice(at)];
  return [text.slice(0, at)];
}

function busId(card: CardSample): string {
  return `0000:${String(card.index + 1).padStart(2, '0')}:00.0`;
}

/** As the real program writes it: local time, `2026/01/31 12:00:00.000`. */
function timestamp(at: Date): string {
  const two = (value: number): string => String(value).padStart(2, '0');
  const day = `${at.getFullYear()}/${two(at.getMonth() + 1)}/${two(at.getDate())}`;
  const time = `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
  return `${day} ${time}.${String(at.getMilliseconds()).padStart(3, '0')}`;
}

function exit(code: number, stdout: string, stderr = ''): SmiStep {
  return { kind: 'exit', code, stdout, stderr };
}
