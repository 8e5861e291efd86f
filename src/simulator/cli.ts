#!/usr/bin/env node
import { pathToFileURL } from 'node:url';

/** Where a command writes; lines end with a newline. */
export interface CommandOutput {
  stdout(text: string): void;
  stderr(text: string): void;
}

interface Command {
  readonly usage: string;
  readonly summary: string;
  /** Null when the words do not fit the usage. */
  request(words: readonly string[]): { method: string; path: string; body?: object } | null;
}

const USAGE = 'usage: <admin url> <command>';

const COMMANDS: Readonly<Record<string, Command>> = {
  state: {
    usage: 'state',
    summary: 'cards, holders, models, faults',
    request: () => ({ method: 'GET', path: '/state' }),
  },
  record: {
    usage: 'record [after]',
    summary: 'what happened, after an entry',
    request: ([after = '0']) => ({ method: 'GET', path: `/record?after=${encodeURIComponent(after)}` }),
  },
  fault: {
    usage: 'fault list | fault set <name> [key=value …] | fault clear [name]',
    summary: 'faults, set while it runs',
    request: ([verb, name, ...params]) => {
      if (verb === 'list') return { method: 'GET', path: '/faults' };
      if (verb === 'clear')
        return { method: 'DELETE', path: name === undefined ? '/faults' : `/faults/${segment(name)}` };
      return verb === 'set' && name !== undefined
        ? { method: 'POST', path: '/faults', body: { name, ...pairs(params) } }
        : null;
    },
  },
  foreign: {
    usage: 'foreign add <mb> [gpu=…] [kind=compute|graphics] [name=…] | foreign resize <pid> <mb> | foreign end <pid>',
    summary: 'processes that belong to nobody here',
    request: ([verb, first, ...rest]) => {
      if (first === undefined) return null;
      if (verb === 'add') return { method: 'POST', path: '/foreign', body: { mb: Number(first), ...pairs(rest) } };
      if (verb === 'end') return { method: 'DELETE', path: `/foreign/${segment(first)}` };
      return verb === 'resize' && rest[0] !== undefined
        ? { method: 'PATCH', path: `/foreign/${segment(first)}`, body: { mb: Number(rest[0]) } }
        : null;
    },
  },
  card: {
    usage: 'card <uuid or index> [temperature=…] [utilization=…]',
    summary: 'set what a card shows',
    request: ([gpu, ...params]) =>
      gpu === undefined ? null : { method: 'POST', path: `/cards/${segment(gpu)}`, body: pairs(params) },
  },
  ollama: {
    usage: 'ollama stop [orphans] | ollama start | ollama crash <model>',
    summary: 'the Ollama server and its runners',
    request: ([verb, word]) => {
      if (verb === 'stop') return { method: 'POST', path: '/ollama/stop', body: { orphans: word === 'orphans' } };
      if (verb === 'start') return { method: 'POST', path: '/ollama/start' };
      return verb === 'crash' && word !== undefined
        ? { method: 'POST', path: '/ollama/crash-runner', body: { model: word } }
        : null;
    },
  },
  speed: {
    usage: 'speed <n>',
    summary: 'n times real time',
    request: ([speed]) =>
      speed === undefined ? null : { method: 'POST', path: '/speed', body: { speed: Number(speed) } },
  },
  settings: {
    usage: 'settings [reclaimMs=…] [embedderMb=…] [maxLoadedModels=…]',
    summary: 'figures of the simulated host',
    request: (params) => ({ method: 'POST', path: '/settings', body: pairs(params) }),
  },
};

/** Every command with what it is for, in lines. */
export const COMMAND_USAGE = Object.values(COMMANDS)
  .map(({ usage, summary }) => `  ${usage}\n      ${summary}\n`)
  .join('');

/**
 * `<admin url> <command> …`: drives a running simulator and prints its answer as JSON.
 * Exit codes: 0 done, 1 refused by the simulator, 2 wrong words, 3 the simulator does not answer.
 */
export async function runSimulatorCommand(argv: readonly string[], output: CommandOutput): Promise<number> {
  const [url, name = '', ...words] = argv;
  const request = COMMANDS[name]?.request(words) ?? null;
  if (url === undefined || !URL.canParse(url) || request === null) {
    output.stderr(`${USAGE}\n${COMMAND_USAGE}`);
    return 2;
  }
  const { method, path, body = {} } = request;
  const hasBody = method === 'POST' || method === 'PATCH';
  let answer: Response;
  try {
    answer = await fetch(new URL(path, url), {
      method,
      ...(hasBody ? { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) } : {}),
    });
  } catch (error) {
    output.stderr(`no simulator answers at ${url} (${(error as Error).message}); is it running?\n`);
    return 3;
  }
  const content = (await answer.json()) as { error?: string; remedy?: string | null };
  if (!answer.ok) {
    output.stderr(`${content.error ?? `the simulator answered ${answer.status}`}\n`);
    if (content.remedy) output.stderr(`${content.remedy}\n`);
    return 1;
  }
  output.stdout(`${JSON.stringify(content, null, 2)}\n`);
  return 0;
}

/** `key=value` words; what reads as a number is one. */
function pairs(words: readonly string[]): Record<string, string | number> {
  return Object.fromEntries(
    words.map((word) => {
      const [key = '', ...rest] = word.split('=');
      const value = rest.join('=');
      return [key, value !== '' && Number.isFinite(Number(value)) ? Number(value) : value];
    }),
  );
}

function segment(name: string): string {
  return encodeURIComponent(name);
}

if (process.argv[1] !== undefined && import.meta.url === pathToFileURL(process.argv[1]).href) {
  process.exitCode = await runSimulatorCommand(process.argv.slice(2), {
    stdout: (text) => process.stdout.write(text),
    stderr: (text) => process.stderr.write(text),
  });
}
