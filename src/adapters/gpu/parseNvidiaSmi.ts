/**
 * Reads single lines of nvidia-smi. Pure; never throws; every number it gives stands in the text.
 * In each query the name comes last, so a line that was cut in a figure cannot pass for a whole one.
 */
import { UNNAMED } from '../../contracts/names.js';
import { type Diagnosis, diagnose, explainField } from './diagnoseNvidiaSmi.js';
import type { GpuReading, ListedProcess } from './reader.js';

const GPU_FIELDS = [
  'index',
  'uuid',
  'pci.bus_id',
  'memory.total',
  'memory.used',
  'memory.free',
  'utilization.gpu',
  'temperature.gpu',
  'mig.mode.current',
  'name',
];

/** Drivers before 450 do not know MIG and refuse the whole query for that field. */
export const gpuQuery = (withMig: boolean): string =>
  `--query-gpu=${GPU_FIELDS.filter((field) => withMig || field !== 'mig.mode.current').join(',')}`;

export const PROCESS_QUERY = '--query-compute-apps=gpu_uuid,pid,used_memory,process_name';

export interface GpuRow {
  busId: string;
  reading: GpuReading;
}

export type GpuLine =
  | { kind: 'gpu'; row: GpuRow }
  /** A line that is not whole; of this GPU, where that can still be told. */
  | { kind: 'odd'; uuid: string | null; problem: string }
  | { kind: 'message'; diagnosis: Diagnosis }
  | { kind: 'blank' };

export type ProcessLine =
  | { kind: 'process'; process: ListedProcess }
  | { kind: 'odd'; problem: string }
  | { kind: 'message'; diagnosis: Diagnosis }
  | { kind: 'blank' };

const UUID = /^GPU-(?!.*GPU)[0-9a-z-]+$/i;
/** Plain digits: a locale's comma, a unit, a sign or a leading zero makes a figure unknown. */
const FIGURE = /^(?:0|[1-9]\d{0,8})$/;

/** The separator is a comma and a space; a comma alone is part of a field. */
const fieldsOf = (line: string): string[] =>
  line
    .trim()
    .split(', ')
    .map((field) => field.trim());

/** A cut line with the next one stuck to it. */
const isTwoLines = (line: string): boolean => (line.match(/GPU-[0-9a-z-]+, /gi) ?? []).length > 1;

const quoted = (line: string): string => `"${line.trim().slice(0, 120)}"`;

function figure(text: string, highest: number): number | null {
  const value = FIGURE.test(text) ? Number(text) : null;
  return value !== null && value <= highest ? value : null;
}

/** A line of the query `gpuQuery(withMig)` with `--format=csv,noheader,nounits`. */
export function parseGpuLine(line: string, withMig: boolean): GpuLine {
  if (line.trim() === '') return { kind: 'blank' };
  const fields = fieldsOf(line);
  const [index = '', uuid = ''] = fields;
  if (!FIGURE.test(index) || !UUID.test(uuid)) {
    const diagnosis = diagnose(line);
    if (diagnosis) return { kind: 'message', diagnosis };
    return { kind: 'odd', uuid: null, problem: `nvidia-smi printed an unexpected line: ${quoted(line)}` };
  }
  const name = fields[withMig ? 9 : 8] ?? '';
  const whole = fields.length === (withMig ? 10 : 9) && name !== '' && !isTwoLines(line);
  if (!whole) return { kind: 'odd', uuid, problem: `nvidia-smi printed a cut line: ${quoted(line)}` };
  const [, , busId = '', total = '', used = '', free = '', utilization = '', temperature = ''] = fields;
  const mig = withMig ? fields[8] : 'N/A';
  const texts = { total, used, free, utilization, temperature, migEnabled: mig === 'Enabled' };
  return { kind: 'gpu', row: { busId, reading: judge(Number(index), uuid, name, texts) } };
}

interface FigureTexts {
  total: string;
  used: string;
  free: string;
  utilization: string;
  temperature: string;
  migEnabled: boolean;
}

function judge(index: number, uuid: string, name: string, texts: FigureTexts): GpuReading {
  const totalMb = figure(texts.total, Number.MAX_SAFE_INTEGER) || null;
  const usedMb = figure(texts.used, totalMb ?? Number.MAX_SAFE_INTEGER);
  const reading = {
    uuid,
    index,
    name,
    totalMb,
    usedMb,
    freeMb: figure(texts.free, totalMb ?? Number.MAX_SAFE_INTEGER),
    utilizationPercent: figure(texts.utilization, 100),
    temperatureC: figure(texts.temperature, 250),
  };
  const unread = (
    [
      ['memory.total', texts.total, totalMb],
      ['memory.used', texts.used, usedMb],
      ['memory.free', texts.free, reading.freeMb],
      ['utilization.gpu', texts.utilization, reading.utilizationPercent],
      ['temperature.gpu', texts.temperature, reading.temperatureC],
    ] as const
  )
    .filter(([, , value]) => value === null)
    .map(([field, text]) => ({ field, ...explainField(text) }));
  const words = [...new Set(unread.map(({ why }) => why))]
    .map((why) =>
      inWords(
        unread.filter((one) => one.why === why).map(({ field }) => field),
        why,
      ),
    )
    .join('; ');
  if (unread.some(({ lost }) => lost))
    return { ...reading, usedMb: null, freeMb: null, health: 'lost', problem: words };
  if (texts.migEnabled)
    return {
      ...reading,
      usedMb: null,
      freeMb: null,
      health: 'unknown',
      problem: `MIG is enabled, so the memory of the whole GPU says nothing about a slice. Switch it off with 'nvidia-smi -i ${uuid} -mig 0'.`,
    };
  if (totalMb === null || usedMb === null || reading.freeMb === null)
    return { ...reading, health: 'unknown', problem: words };
  return { ...reading, health: 'ok', problem: words || null };
}

/** A lost GPU tells nothing, for one reason: that is said once. */
function inWords(fields: string[], why: string): string {
  return fields.length === 1 ? `${fields.join('')} is ${why}` : `${fields.join(', ')} are ${why}`;
}

/** A line of `PROCESS_QUERY` with `--format=csv,noheader,nounits`. */
export function parseProcessLine(line: string): ProcessLine {
  if (line.trim() === '' || /no running processes found/i.test(line)) return { kind: 'blank' };
  const [uuid = '', pid = '', used = '', ...name] = fieldsOf(line);
  if (!UUID.test(uuid) || !FIGURE.test(pid) || name.length === 0 || isTwoLines(line)) {
    const diagnosis = diagnose(line);
    if (diagnosis) return { kind: 'message', diagnosis };
    return { kind: 'odd', problem: `nvidia-smi printed an unexpected line about processes: ${quoted(line)}` };
  }
  const words = name.join(', ');
  return {
    kind: 'process',
    process: {
      uuid,
      pid: Number(pid),
      // In brackets or as a dash: it lives in another namespace, belongs to another user, or is about to end.
      name: words === '' || words === '-' || /^\[.*\]$/.test(words) ? UNNAMED : words,
      usedMb: figure(used, Number.MAX_SAFE_INTEGER),
    },
  };
}

export interface ListedGpu {
  index: number;
  uuid: string;
  name: string;
}

/** A line of `nvidia-smi -L`; null for MIG slices, messages and anything else. */
export function parseListLine(line: string): ListedGpu | null {
  const match = /^GPU (\d{1,9}): (.+) \(UUID: (GPU-[0-9a-z-]+)\)\s*$/i.exec(line);
  return match ? { index: Number(match[1]), name: match[2] ?? '', uuid: match[3] ?? '' } : null;
}
