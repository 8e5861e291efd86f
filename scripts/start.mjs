// `npm start`: from a fresh clone to a running vramflow. Arguments go to `vramflow up`.
import { spawn } from 'node:child_process';
import { join } from 'node:path';
import { prepare, ROOT } from './prepare.mjs';

await prepare();
const up = spawn(process.execPath, [join(ROOT, 'dist', 'client.js'), 'up', ...process.argv.slice(2)], {
  stdio: 'inherit',
});
// Ctrl-C reaches the whole group: `up` ends in its own time, and this script after it.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP']) {
  process.on(signal, () => {
    if (signal !== 'SIGINT') up.kill(signal);
  });
}
up.on('exit', (code, signal) => process.exit(code ?? (signal === 'SIGINT' ? 130 : 1)));
