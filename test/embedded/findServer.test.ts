/** The chain of places that a server can come from, with small fake programs. */
import { chmod, mkdir, mkdtemp, readdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { serverChain } from '../../src/embedded/chain.js';
import { findServer } from '../../src/embedded/findServer.js';
import { cachedBinary } from '../../src/embedded/links/cached.js';
import { goInstall } from '../../src/embedded/links/goInstall.js';
import { sdkDownload } from '../../src/embedded/links/sdkDownload.js';
import { GO_PACKAGE } from '../../src/embedded/pins.js';
import { parseVersion } from '../../src/embedded/version.js';

const TEMPORAL = '#!/bin/sh\necho "temporal version 1.5.1 (Server 1.29.1, UI 2.42.1)"\n';
const OLD_TEMPORAL = '#!/bin/sh\necho "temporal version 1.0.0 (Server 1.24.2, UI 2.28.0)"\n';

let folder: string;
let bin: string;
let cacheFolder: string;
let lines: string[];
const progress = (line: string) => lines.push(line);

beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'vramflow-find-'));
  bin = join(folder, 'bin');
  cacheFolder = join(folder, 'cache');
  lines = [];
  await mkdir(bin);
});

afterEach(() => rm(folder, { recursive: true, force: true }));

async function program(name: string, text: string): Promise<string> {
  const path = join(bin, name);
  await writeFile(path, text);
  await chmod(path, 0o755);
  return path;
}

/** A Go that "builds" the fake above, writing a line each time that it does. */
const fakeGo = (version: string, count: string) => `#!/bin/sh
if [ "$1" = version ]; then echo "go version go${version} linux/amd64"; exit 0; fi
echo built >> ${count}
cat > "$GOBIN/temporal" <<'END'
${TEMPORAL}END
chmod +x "$GOBIN/temporal"
`;

const chain = (more: { address?: string; binary?: string } = {}) =>
  serverChain({ ...more, cacheFolder, env: { PATH: bin }, progress });

describe('findServer', () => {
  it('uses a given address before anything else', async () => {
    await program('temporal', TEMPORAL);
    expect(await findServer(chain({ address: 'somewhere:7233' }))).toEqual({
      kind: 'address',
      address: 'somewhere:7233',
    });
  });

  it('uses a recent `temporal` on the PATH', async () => {
    const path = await program('temporal', TEMPORAL);
    expect(await findServer(chain())).toEqual({ kind: 'binary', path, server: [1, 29, 1] });
  });

  it('does not go on when the configured program is unusable', async () => {
    await program('temporal', TEMPORAL);
    await expect(findServer(chain({ binary: join(folder, 'missing') }))).rejects.toMatchObject({
      kind: 'no-server',
      message: expect.stringContaining(join(folder, 'missing')) as string,
    });
  });

  it('passes over an old one on the PATH for the one in the cache', async () => {
    await program('temporal', OLD_TEMPORAL);
    const path = cachedBinary(cacheFolder);
    await mkdir(join(path, '..'), { recursive: true });
    await writeFile(path, TEMPORAL, { mode: 0o755 });
    expect(await findServer(chain())).toMatchObject({ path });
  });

  it('names the reason of every link when none has one', async () => {
    await program('temporal', OLD_TEMPORAL);
    await program('go', fakeGo('1.19.8', join(folder, 'count')));
    const links = chain().filter((link) => link.name !== "the SDK's download");
    const error: unknown = await findServer(links).catch((thrown: unknown) => thrown);
    expect(error).toMatchObject({ kind: 'no-server', remedy: expect.stringContaining(GO_PACKAGE) as string });
    const { message } = error as Error;
    expect(message).toContain('the PATH: ');
    expect(message).toContain('server 1.24.2; 1.29.0 is the oldest tried');
    expect(message).toContain('the cache: nothing at ');
    expect(message).toContain('go is 1.19.8; 1.25.0 or newer is needed');
  });
});

describe('the build with Go', () => {
  const link = () => goInstall({ cacheFolder, progress, env: { PATH: `${bin}:/usr/bin:/bin` } });

  it('is announced, happens once for two starts, and leaves only the result', async () => {
    const count = join(folder, 'count');
    await program('go', fakeGo('1.26.1', count));
    const results = await Promise.all([link().try(), link().try()]);
    const path = cachedBinary(cacheFolder);
    for (const result of results) expect(result).toMatchObject({ found: { kind: 'binary', path } });
    expect(lines.find((line) => line.startsWith('Building'))).toMatch(/about 3 minutes and 250 MB/);
    expect(lines.filter((line) => line.startsWith('Building'))).toHaveLength(1);
    expect(await readdir(join(path, '..'))).toEqual(['temporal']);
    expect(await link().try()).toMatchObject({ found: { path } });
    expect(lines.filter((line) => line.startsWith('Building'))).toHaveLength(1);
  });

  it('says why it failed and leaves nothing behind', async () => {
    await program(
      'go',
      '#!/bin/sh\n[ "$1" = version ] && echo "go version go1.26.1 x" && exit 0\necho "no space left" >&2\nexit 1\n',
    );
    expect(await link().try()).toEqual({ reason: 'go install failed: no space left' });
    expect(await readdir(join(cachedBinary(cacheFolder), '..'))).toEqual([]);
  });
});

describe("the SDK's download", () => {
  it('gives up after a bounded wait without progress, with a reason', async () => {
    const result = await sdkDownload({ cacheFolder, progress, stallMs: 1 }).try();
    expect(result).toEqual({ reason: expect.stringMatching(/no progress for 0.001 s|failed to/) as string });
    expect(await readdir(join(cachedBinary(cacheFolder), '..'))).toEqual([]);
  });
});

describe('parseVersion', () => {
  it.each([
    ['temporal version 0.0.0-DEV (Server 1.29.1, UI 2.42.1)', 'Server ', [1, 29, 1]],
    ['go version go1.26 linux/amd64', 'go version go', [1, 26, 0]],
    ['something else', 'Server ', null],
    ['Server of no number', 'Server ', null],
  ])('reads %s', (text, prefix, version) => {
    expect(parseVersion(text, prefix)).toEqual(version);
  });
});
