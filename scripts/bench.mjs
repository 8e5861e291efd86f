// `npm run bench`: the measurements in bench/, one file each, one after the other.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { prepare, ROOT } from './prepare.mjs';

await prepare();
const vitest = join(ROOT, 'node_modules', 'vitest', 'vitest.mjs');
const args = ['run', '--config', 'vitest.bench.config.ts', ...process.argv.slice(2)];
const child = spawn(process.execPath, [vitest, ...args], { cwd: ROOT, stdio: 'inherit' });
child.on('exit', (code) => process.exit(code ?? 1));
