// Builds dist/: the compiled sources, and the workflows bundled once instead of at each start of a worker.
import { createHash } from 'node:crypto';
import { existsSync, readdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { ROOT, run } from './prepare.mjs';

const dist = (...parts) => join(ROOT, 'dist', ...parts);

/** Beside the bundle: what it was made from. */
const STAMP = dist('workflows.bundle.stamp');

export async function build() {
  // Incremental: a second or two when nothing changed.
  run(process.execPath, [join(ROOT, 'node_modules', 'typescript', 'bin', 'tsc'), '-p', join(ROOT, 'tsconfig.json')]);
  await bundleWorkflows();
}

async function bundleWorkflows() {
  const workflowsPath = dist('workflows', 'index.js');
  const target = dist('workflows.bundle.js');
  if (!existsSync(workflowsPath)) return;
  const stamp = stampOfInputs();
  if (existsSync(target) && existsSync(STAMP) && readFileSync(STAMP, 'utf8') === stamp) return;
  process.stderr.write('Bundling the workflows …\n');
  const { bundleWorkflowCode } = await import('@temporalio/worker');
  const quiet = { trace() {}, debug() {}, info() {}, warn: console.error, error: console.error, log() {} };
  const { code } = await bundleWorkflowCode({ workflowsPath, logger: quiet });
  // Renamed into place: a worker that starts meanwhile reads the old one or the new one, whole.
  writeFileSync(`${target}.next`, code);
  renameSync(`${target}.next`, target);
  writeFileSync(STAMP, stamp);
}

/** Workflows may import contracts and domain only (the linter holds that), so these are all inputs. */
function stampOfInputs() {
  const hash = createHash('sha256');
  for (const folder of ['workflows', 'contracts', 'domain']) {
    const names = existsSync(dist(folder)) ? readdirSync(dist(folder), { recursive: true }) : [];
    for (const name of names
      .map(String)
      .filter((file) => file.endsWith('.js'))
      .sort()) {
      hash.update(`${folder}/${name}\n`).update(readFileSync(dist(folder, name)));
    }
  }
  const { version } = createRequire(import.meta.url)('@temporalio/worker/package.json');
  return hash.update(version).digest('hex');
}

if (import.meta.url === pathToFileURL(process.argv[1]).href) await build();
