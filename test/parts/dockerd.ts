import { type ChildProcess, spawn } from 'node:child_process';
import { randomBytes, randomInt } from 'node:crypto';
import { chmod, copyFile, mkdir, mkdtemp, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import Docker from 'dockerode';
import { execa } from 'execa';
import { type Missing, onPath } from './parts.js';

/** The only image: busybox, and a service with a page. */
export const IMAGE = 'vramflow-test:1';
/** In the container. */
export const SERVICE_PORT = 8080;

/**
 * A service as the tests need one: it says what it does, on both outputs, answers under /health, and ends at SIGTERM, or,
 * when told to be deaf, does not. A third kind fails after a second and a half. Docker notes the time of a line when it copies
 * it: the last words are said a moment before the end, so that they count as this run's.
 */
const SERVICE = `#!/bin/sh
echo starting
[ "$1" = failing ] && { sleep 1.5; echo 'cannot go on' >&2; exit 1; }
[ "$1" = deaf ] && trap '' TERM || trap 'echo stopping; sleep 0.2; exit 0' TERM
echo loading >&2
httpd -f -p ${SERVICE_PORT} -h /www &
echo ready
while :; do wait; done
`;

export interface RealDockerd {
  socketPath: string;
  /** Of `dockerd`. */
  pid(): number;
  /** To do what others do outside of vramflow. */
  docker: Docker;
  /** Ends the daemon; its containers go on. */
  leave(): Promise<void>;
  comeBack(): Promise<void>;
  /** Ends the daemon with all that it ran, and removes what it left. */
  stop(): Promise<void>;
}

/**
 * Starts a dockerd of the test's own: its socket, its data, its bridge, no rule of the firewall. Nothing is pulled; the image
 * is made of the busybox of this machine. It needs root.
 */
export async function startRealDockerd(): Promise<RealDockerd | Missing> {
  const missing = await whatIsMissing();
  if (missing !== null) return missing;
  // Short: the path of a socket has little room.
  const folder = await mkdtemp(join(tmpdir(), 'vf-dockerd-'));
  const socketPath = join(folder, 'docker.sock');
  const bridge = await makeBridge();
  let daemon: ChildProcess;
  try {
    daemon = await launch(folder, bridge);
  } catch (error) {
    await removeBridge(bridge);
    await unmountAll(folder);
    await rm(folder, { recursive: true, force: true });
    // As in a container without the rights to make others.
    return { skip: `dockerd cannot run here: ${(error as Error).message}` };
  }
  const docker = new Docker({ socketPath });
  const killDaemon = (): void => void daemon.kill('SIGKILL');
  process.once('exit', killDaemon);

  async function end(): Promise<void> {
    if (daemon.exitCode !== null || daemon.signalCode !== null) return;
    const ended = new Promise((resolve) => daemon.once('exit', resolve));
    daemon.kill('SIGTERM');
    const hangs = setTimeout(() => daemon.kill('SIGKILL'), 15_000);
    await ended;
    clearTimeout(hangs);
  }

  async function stop(): Promise<void> {
    for (const { Id } of await docker.listContainers({ all: true }))
      await docker.getContainer(Id).remove({ force: true });
    await end();
    process.removeListener('exit', killDaemon);
    await removeBridge(bridge);
    await unmountAll(folder);
    await rm(folder, { recursive: true, force: true });
  }

  try {
    await importImage(docker, join(folder, 'image'));
  } catch (error) {
    await stop();
    throw error;
  }
  return {
    socketPath,
    pid: () => daemon.pid ?? Number.NaN,
    docker,
    leave: end,
    async comeBack() {
      daemon = await launch(folder, bridge);
    },
    stop,
  };
}

async function whatIsMissing(): Promise<Missing | null> {
  if (process.platform !== 'linux') return { skip: "a dockerd of the test's own runs on Linux only" };
  if ((await onPath('dockerd')) === null) return { skip: "no `dockerd` on the PATH; install Debian's docker.io" };
  if (process.getuid?.() !== 0) return { skip: "a dockerd of the test's own needs root" };
  const busybox = await onPath('busybox');
  if (busybox === null) return { skip: "no `busybox` on the PATH; install Debian's busybox-static" };
  const isStatic = !(await readFile(busybox)).includes('/ld-linux');
  return isStatic ? null : { skip: '`busybox` needs libraries, which the image would lack; install busybox-static' };
}

/** A bridge of its own: docker0 may be another daemon's. The addresses are of a range kept for tests (RFC 2544). */
async function makeBridge(): Promise<string> {
  const name = `vft${randomBytes(4).toString('hex')}`;
  await execa('busybox', ['brctl', 'addbr', name]);
  await execa('busybox', ['ip', 'addr', 'add', `198.18.${randomInt(256)}.1/24`, 'dev', name]);
  await execa('busybox', ['ip', 'link', 'set', name, 'up']);
  return name;
}

async function removeBridge(name: string): Promise<void> {
  await execa('busybox', ['ip', 'link', 'set', name, 'down']);
  await execa('busybox', ['brctl', 'delbr', name]);
}

/** A daemon whose containers may outlive it leaves its mounts. */
async function unmountAll(folder: string): Promise<void> {
  const mounts = (await readFile('/proc/self/mounts', 'utf8')).split('\n').map((line) => line.split(' ')[1] ?? '');
  const inside = mounts.filter((mount) => mount.startsWith(`${folder}/`)).reverse();
  for (const mount of inside) await execa('busybox', ['umount', mount]);
}

/** Resolves once it listens; rejects with the end of its log when it ends instead. */
async function launch(folder: string, bridge: string): Promise<ChildProcess> {
  const child = spawn(
    'dockerd',
    [
      `--host=unix://${join(folder, 'docker.sock')}`,
      `--data-root=${join(folder, 'data')}`,
      `--exec-root=${join(folder, 'exec')}`,
      `--pidfile=${join(folder, 'docker.pid')}`,
      `--bridge=${bridge}`,
      '--iptables=false',
      '--ip6tables=false',
      '--ip-forward=false',
      '--ip-masq=false',
      // Its containers outlive it, so that it can come back to them.
      '--live-restore',
    ],
    { stdio: ['ignore', 'ignore', 'pipe'], detached: true },
  );
  await new Promise<void>((resolve, reject) => {
    const log: string[] = [];
    const lines = createInterface({ input: child.stderr });
    // Reads on for ever: a full pipe would stop the daemon.
    lines.on('line', (line) => {
      log.push(line);
      if (log.length > 20) log.shift();
      if (line.includes('API listen on')) resolve();
    });
    child.once('error', reject);
    child.once('exit', (code) => reject(new Error(`dockerd ended with code ${code}:\n${log.join('\n')}`)));
  });
  return child;
}

async function importImage(docker: Docker, root: string): Promise<void> {
  await mkdir(join(root, 'bin'), { recursive: true });
  await mkdir(join(root, 'www'));
  await copyFile((await onPath('busybox')) ?? '', join(root, 'bin/busybox'));
  for (const applet of ['sh', 'sleep', 'httpd']) await symlink('busybox', join(root, 'bin', applet));
  await writeFile(join(root, 'www/health'), 'ok\n');
  await writeFile(join(root, 'service'), SERVICE);
  await chmod(join(root, 'service'), 0o755);
  const archive = `${root}.tar`;
  await execa('tar', ['-C', root, '-cf', archive, '.']);
  const [repo, tag] = IMAGE.split(':');
  const progress = await docker.importImage(archive, { repo, tag });
  await new Promise<void>((resolve, reject) => {
    docker.modem.followProgress(progress, (error: Error | null) => (error === null ? resolve() : reject(error)));
  });
}
