// Completes package-lock.json after `npm install` from a registry that lacks packages of other platforms (a mirror that
// lags, say). npm leaves those out of the lock file, and then `npm ci` refuses it, here and on those platforms.
// Usage: node scripts/completeLock.mjs   (prints what it added; nothing to add is fine)
import { readFileSync, writeFileSync } from 'node:fs';

const PATH = new URL('../package-lock.json', import.meta.url);
const lock = JSON.parse(readFileSync(PATH, 'utf8'));

const SYSTEMS = {
  android: 'android',
  darwin: 'darwin',
  freebsd: 'freebsd',
  linux: 'linux',
  openharmony: 'openharmony',
  win32: 'win32',
};
const PROCESSORS = ['arm64', 'arm', 'x64', 'ia32', 'ppc64', 'riscv64', 's390x', 'loong64', 'mips64el'];

/** What a platform package's name says: `@swc/core-linux-arm64-musl` → linux, arm64, musl. */
function platformOf(name) {
  const words = name.split('/').at(-1).split('-');
  const os = words.map((word) => SYSTEMS[word]).find(Boolean);
  const cpu = PROCESSORS.find((processor) => words.includes(processor));
  const libc = words.some((word) => word.startsWith('musl'))
    ? 'musl'
    : words.some((word) => word.startsWith('gnu'))
      ? 'glibc'
      : null;
  return {
    ...(os ? { os: [os] } : {}),
    ...(cpu ? { cpu: [cpu] } : {}),
    ...(os === 'linux' && libc ? { libc: [libc] } : {}),
  };
}

const added = [];
for (const entry of Object.values(lock.packages)) {
  for (const [name, version] of Object.entries(entry.optionalDependencies ?? {})) {
    const path = `node_modules/${name}`;
    if (lock.packages[path] || !/^\d+\.\d+\.\d+/.test(version)) continue;
    const platform = platformOf(name);
    // Without a platform npm would try to install it here.
    if (!platform.os) continue;
    lock.packages[path] = { version, ...platform, ...(entry.dev ? { dev: true } : {}), optional: true };
    added.push(`${name}@${version}`);
  }
}
lock.packages = Object.fromEntries(
  Object.entries(lock.packages).sort(([a], [b]) => (a === '' ? -1 : b === '' ? 1 : a.localeCompare(b, 'en'))),
);
writeFileSync(PATH, `${JSON.stringify(lock, null, 2)}\n`);
console.log(added.length > 0 ? added.join('\n') : 'nothing to add');
