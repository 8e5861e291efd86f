// Makes a fresh clone runnable. Plain Node: it runs before any dependency is there.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export const ROOT = fileURLToPath(new URL('..', import.meta.url));

const inRoot = (...parts) => join(ROOT, ...parts);

/** Ends the process with a message when a child failed. */
export function run(command, args, options = {}) {
  const result = spawnSync(command, args, {
    cwd: ROOT,
    // Progress belongs on stderr: stdout is for what a command answers.
    stdio: ['ignore', 2, 2],
    shell: process.platform === 'win32',
    ...options,
  });
  if (result.status === 0) return;
  const how = result.error?.message ?? (result.signal ? `signal ${result.signal}` : `exit code ${result.status}`);
  fail(`\`${[command, ...args].join(' ')}\` failed: ${how}.`);
}

export function fail(message) {
  process.stderr.write(`${message}\n`);
  process.exit(1);
}

const say = (line) => process.stderr.write(`${line}\n`);

/** The least version stands in package.json, so that it is written once. */
function checkNode() {
  const { engines } = JSON.parse(readFileSync(inRoot('package.json'), 'utf8'));
  const least = engines.node.replace('>=', '').split('.').map(Number);
  const has = process.versions.node.split('.').map(Number);
  const index = [0, 1, 2].find((part) => (has[part] ?? 0) !== (least[part] ?? 0));
  if (index !== undefined && has[index] < (least[index] ?? 0)) {
    fail(`vramflow needs Node ${least.join('.')} or newer; this is ${process.versions.node}.`);
  }
}

/**
 * What the lock file says (scripts/completeLock.mjs keeps it complete for all platforms).
 * npm writes its own lock file last, so its time is that of the installation.
 */
function installModules() {
  const installed = inRoot('node_modules', '.package-lock.json');
  const isFresh = existsSync(installed) && statSync(installed).mtimeMs >= statSync(inRoot('package-lock.json')).mtimeMs;
  if (isFresh) return;
  say('Installing the dependencies …');
  const begun = Date.now();
  run('npm', ['ci', '--no-audit', '--no-fund']);
  say(`Installed in ${Math.round((Date.now() - begun) / 1000)} s.`);
}

/** Node, modules, `dist/`: what `npm start` and `npm test` both need. */
export async function prepare() {
  checkNode();
  installModules();
  const { build } = await import('./build.mjs');
  await build();
}
