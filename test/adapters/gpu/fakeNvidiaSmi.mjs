// A stand-in for nvidia-smi: plays what a script file says and reads that file again at every tick, so that a test
// can change what the program does while it runs. Usage: node fakeNvidiaSmi.mjs SCRIPT.json [nvidia-smi arguments]
import { appendFileSync, readFileSync } from 'node:fs';

const [scriptPath, ...args] = process.argv.slice(2);
const what = args.some((arg) => arg.startsWith('--query-gpu'))
  ? 'gpu'
  : args.some((arg) => arg.startsWith('--query-compute-apps'))
    ? 'apps'
    : 'list';
const loop = args.indexOf('-lms');
const periodMs = loop < 0 ? null : Number(args[loop + 1]);

appendFileSync(`${scriptPath}.starts`, `${what} ${periodMs ?? 'once'} ${process.pid}\n`);

const script = () => JSON.parse(readFileSync(scriptPath, 'utf8'));

function tick() {
  const { hang = [], exit = {}, refuses, [what]: lines = [] } = script();
  if (refuses && args.some((arg) => arg.includes(refuses))) {
    console.log(`Field "${refuses}" is not a valid field to query.`);
    process.exit(2);
  }
  if (hang.includes(what)) {
    process.on('SIGTERM', () => {});
    setInterval(() => {}, 1_000);
    return;
  }
  if (lines.length > 0) process.stdout.write(lines.map((line) => `${line}\n`).join(''));
  if (what in exit) process.exitCode = exit[what];
  else if (periodMs !== null) setTimeout(tick, periodMs);
}
tick();
