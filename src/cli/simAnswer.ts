/** What the simulated host answers to `vramflow sim …`, in short sentences and tables; `-o json` has all of it. */
import { type Style, table } from './output.js';

type Fields = Record<string, unknown>;

/** Of the simulator's admin API; only what is shown here. */
interface State {
  preset: string;
  speed: number;
  cards: { index: number; uuid: string; name: string; totalMb: number; usedMb: number; freeMb: number }[];
  processes: { pid: number; kind: string; name: string; ended: boolean; mb: Record<string, number> }[];
  ollama: {
    url: string;
    running: boolean;
    loaded: { name: string; loading: boolean; vramMb: Record<string, number> }[];
  };
  faults: Fault[];
}

interface Fault {
  name: string;
  params: Fields;
  /** How many times still; null: until cleared. */
  remaining: number | null;
}

interface Faults {
  active: Fault[];
  known: { name: string; summary: string; params: string[] }[];
}

/** @param words what was asked, as `['fault', 'set', …]` */
export function renderSimAnswer(words: readonly string[], answer: Fields, style: Style): string {
  const [command, verb, name] = words;
  const said = (field: string) => String(answer[field]);
  switch (command) {
    case 'state':
      return renderState(answer as unknown as State, style);
    case 'record':
      return (answer as { entries: Fields[] }).entries.map((entry) => renderEntry(entry, style)).join('\n');
    case 'fault':
      return verb === 'list'
        ? renderFaults(answer as unknown as Faults, style)
        : `${verb === 'set' ? '' : `cleared ${name ?? 'all faults'}; `}${faultsSet((answer as unknown as Faults).active)}`;
    case 'foreign':
      return verb === 'end'
        ? `foreign process ${said('pid')} has ended`
        : `foreign process ${said('pid')} holds ${said('mb')} MB on ${said('gpu')}`;
    case 'ollama':
      if (verb === 'crash') return `the runner of ${name} has crashed`;
      return answer['running'] === true ? 'Ollama runs' : 'Ollama does not run';
    case 'speed':
      return `the simulated host runs ${pace(Number(answer['speed']))}`;
    default:
      return pairs(answer);
  }
}

function renderState({ preset, speed, cards, processes, ollama, faults }: State, style: Style): string {
  const short = (uuid: string) => uuid.slice(0, 12);
  const onCards = (mb: Record<string, number>) =>
    Object.entries(mb)
      .map(([uuid, held]) => `${short(uuid)} ${held} MB`)
      .join(' + ');
  const cardRows = cards.map((card) => [
    String(card.index),
    card.name,
    short(card.uuid),
    ...[card.totalMb, card.usedMb, card.freeMb].map((mb) => `${mb} MB`),
  ]);
  const processRows = processes.map(({ pid, kind, name, ended, mb }) => [
    String(pid),
    ended ? `${kind}, ended` : kind,
    onCards(mb) || '–',
    name,
  ]);
  const loaded = ollama.loaded.map(
    ({ name, loading, vramMb }) =>
      `${name} ${loading ? 'is being loaded' : `holds ${onCards(vramMb) || 'no memory of a card'}`}`,
  );
  return [
    style.yellow(`SIMULATED host ${preset}, running ${pace(speed)}`),
    ollama.running ? `Ollama runs at ${ollama.url}: ${loaded.join(', ') || 'nothing loaded'}` : 'Ollama does not run',
    faultsSet(faults),
    '',
    table(titles('card', 'name', 'id', 'total', 'used', 'free'), cardRows, style),
    '',
    table(titles('pid', 'kind', 'holds', 'program'), processRows, style),
  ].join('\n');
}

function renderEntry({ at, kind, seq, ...details }: Fields, style: Style): string {
  // The time of day says it better.
  delete details['atMs'];
  return `${style.dim(`${String(seq)} ${String(at)}`)} ${style.cyan(String(kind).padEnd(15))} ${pairs(details)}`.trimEnd();
}

function renderFaults({ active, known }: Faults, style: Style): string {
  const rows = known.map(({ name, params, summary }) => [name, params.join(' ') || '–', summary]);
  return `${faultsSet(active)}\n\n${table(titles('fault', 'takes', 'what it does'), rows, style)}`;
}

function faultsSet(active: readonly Fault[]): string {
  if (active.length === 0) return 'no fault is set';
  const described = active.map(({ name, params, remaining }) => {
    const times = remaining === null ? '' : remaining === 1 ? 'once' : `${remaining} times`;
    return [name, pairs(params), times].filter((word) => word !== '').join(' ');
  });
  return `set: ${described.join(', ')}`;
}

const pace = (speed: number): string => (speed === 1 ? 'in real time' : `at ${speed} times real time`);

const titles = (...names: string[]) => names.map((title) => ({ title }));

const pairs = (fields: Fields): string =>
  Object.entries(fields)
    .filter(([, value]) => value !== null)
    .map(([key, value]) => `${key}=${typeof value === 'string' ? value : JSON.stringify(value)}`)
    .join(' ');
