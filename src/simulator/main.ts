#!/usr/bin/env node
import { parseArgs } from 'node:util';
import { type SimulatorOptions, startSimulator } from './simulator.js';

/** Starts the simulator as a process of its own: one JSON line on stdout when ready, all else on stderr. */
async function main(): Promise<void> {
  const simulator = await startSimulator(readOptions());
  process.stdout.write(`${JSON.stringify(simulator.info)}\n`);
  process.stderr.write(
    `simulated GPU host '${simulator.preset}': admin ${simulator.info.admin}, ollama ${simulator.info.ollama}\n`,
  );
  let ending = false;
  for (const signal of ['SIGTERM', 'SIGINT'] as const) {
    process.on(signal, () => {
      if (ending) return;
      ending = true;
      void simulator.stop().then(() => process.exit(0));
    });
  }
}

function readOptions(): SimulatorOptions {
  const { values } = parseArgs({
    options: {
      preset: { type: 'string', default: 'rtx4090' },
      speed: { type: 'string', default: '1' },
      seed: { type: 'string', default: '1' },
      port: { type: 'string', default: '0' },
      'port-ollama': { type: 'string', default: '0' },
      'state-file': { type: 'string' },
      services: { type: 'string' },
    },
  });
  const { 'state-file': stateFile, services: servicesFile } = values;
  return {
    preset: values.preset,
    speed: numberFrom('--speed', values.speed, Number.MIN_VALUE),
    seed: numberFrom('--seed', values.seed, 0),
    port: numberFrom('--port', values.port, 0),
    portOllama: numberFrom('--port-ollama', values['port-ollama'], 0),
    ...(stateFile === undefined ? {} : { stateFile }),
    ...(servicesFile === undefined ? {} : { servicesFile }),
  };
}

function numberFrom(option: string, value: string, least: number): number {
  const number = Number(value);
  if (!(number >= least))
    throw new RangeError(`${option} must be a number${least > 0 ? ' above 0' : ''}, not '${value}'`);
  return number;
}

main().catch((error: unknown) => {
  process.stderr.write(`simulator: ${(error as Error).message}\n`);
  process.exitCode = 2;
});
