/** Compose itself over docker-compose.yml: no image can be pulled in a test, but it can say what it would run. */
import { readFile } from 'node:fs/promises';
import { homedir } from 'node:os';
import { execa } from 'execa';
import { describe, expect, it } from 'vitest';
import { z } from 'zod';

import { checkFile } from '../../src/config/load.js';
import { type Missing, requirePart } from '../parts/parts.js';

/** `file`: a text in place of docker-compose.yml; `files`: names. */
type Compose = (options: { file?: string; files?: readonly string[]; env?: Record<string, string> }) => Promise<{
  exitCode?: number | undefined;
  stdout: string;
  stderr: string;
}>;

/** As a plugin of Docker, or as a program of its own. */
const COMMANDS = [['docker', 'compose'], ['docker-compose']] as const;

async function findCompose(): Promise<Compose | Missing> {
  for (const [program, ...words] of COMMANDS) {
    const { exitCode, stdout } = await execa(program, [...words, 'version', '--short'], { reject: false });
    // The first generation has other rules.
    if (exitCode !== 0 || /^v?1\./.test(stdout)) continue;
    return ({ file, files = [], env = {} }) =>
      execa(
        program,
        [
          ...words,
          ...(file === undefined ? [] : ['--file', '-', '--project-directory', '.']),
          ...files.flatMap((name) => ['--file', name]),
          ...CONFIG,
        ],
        {
          reject: false,
          // Nothing of the surroundings but what starts the program: all other values come from .env.
          extendEnv: false,
          env: { PATH: process.env['PATH'] ?? '', HOME: process.env['HOME'] ?? '', ...env },
          ...(file === undefined ? { stdin: 'ignore' } : { input: file }),
        },
      );
  }
  return { skip: 'no Docker Compose v2 on the PATH, as `docker compose` or as `docker-compose`' };
}

const CONFIG = ['config', '--format', 'json'];

const modelSchema = z.object({
  name: z.string(),
  services: z.record(
    z.string(),
    z.object({
      image: z.string(),
      environment: z.record(z.string(), z.string()).optional(),
      ports: z.array(z.object({ host_ip: z.string() })).optional(),
      volumes: z.array(z.object({ type: z.string(), source: z.string(), target: z.string() })).optional(),
      pid: z.string().optional(),
      group_add: z.array(z.string()).optional(),
      deploy: z
        .object({
          resources: z.object({ reservations: z.object({ devices: z.array(z.object({ count: z.number() })) }) }),
        })
        .optional(),
    }),
  ),
});

const found = requirePart('Docker Compose', await findCompose());

describe('docker compose config', () => {
  it('takes the file without a word, with all from .env, and gives the agent all GPUs', async ({ skip }) => {
    if ('skip' in found) return skip(found.skip);
    const { exitCode, stdout, stderr } = await found({});
    // It warns of each variable without a value.
    expect(stderr).not.toContain('level=warning');
    expect(exitCode).toBe(0);
    const { name, services } = modelSchema.parse(JSON.parse(stdout));
    expect(name).toBe('vramflow');
    for (const { image, ports = [] } of Object.values(services)) {
      expect(image).toMatch(/^(vramflow:local|[\w/-]+:\d+\.\d+[\w.-]*)$/);
      for (const port of ports) expect(port.host_ip).toBe('127.0.0.1');
    }
    // -1 is how Compose says `all`.
    expect(services['agent']?.deploy?.resources.reservations.devices).toEqual([{ count: -1 }]);
    expect(services['agent']?.pid).toBe('host');
  });

  it('gives both workers the configuration file and the host that the user names', async ({ skip }) => {
    if ('skip' in found) return skip(found.skip);
    const { stdout } = await found({ env: { VRAMFLOW_CONFIG_FILE: './mine.yaml', VRAMFLOW_HOST: 'rig' } });
    const { services } = modelSchema.parse(JSON.parse(stdout));
    for (const worker of ['control', 'agent']) {
      expect(services[worker]?.environment?.['VRAMFLOW_HOST']).toBe('rig');
      expect(services[worker]?.volumes).toContainEqual({
        type: 'bind',
        source: `${process.cwd()}/mine.yaml`,
        target: services[worker]?.environment?.['VRAMFLOW_CONFIG'],
      });
    }
  });

  it('gives the agent Docker’s socket and its group where the user puts the other file over it, and nobody else', async ({
    skip,
  }) => {
    if ('skip' in found) return skip(found.skip);
    const files = ['docker-compose.yml', 'docker-compose.services.yml'];
    const { exitCode, stdout } = await found({ files, env: { DOCKER_GID: '998' } });
    expect(exitCode).toBe(0);
    const { services } = modelSchema.parse(JSON.parse(stdout));
    const socket = { type: 'bind', source: '/var/run/docker.sock', target: '/var/run/docker.sock' };
    // Where vramflow looks for it.
    expect(checkFile('examples/media-pipeline.yaml', homedir()).config.docker.socket).toBe(socket.target);
    const mounts = Object.entries(services).flatMap(([name, { volumes = [], group_add }]) =>
      volumes.filter(({ target }) => target === socket.target).map((volume) => ({ name, group_add, volume })),
    );
    expect(mounts).toEqual([{ name: 'agent', group_add: ['998'], volume: socket }]);
    const without = await found({ files });
    expect(without.exitCode).not.toBe(0);
    expect(without.stderr).toMatch(/DOCKER_GID.*stat -c %g/);
  });

  it.for([
    ['a volume that is not declared', '- vramflow:/data', '- elsewhere:/data', /undefined volume/],
    ['a key that Compose does not know', 'pid: host', 'pidd: host', /pidd/],
    ['a service that waits for itself', 'image: postgres', 'depends_on: [agent]\n    image: postgres', /cycle/],
  ] as const)('would refuse %s', async ([, right, wrong, complaint], { skip }) => {
    if ('skip' in found) return skip(found.skip);
    const text = await readFile('docker-compose.yml', 'utf8');
    const { exitCode, stderr } = await found({ file: text.replace(right, wrong) });
    expect(exitCode).not.toBe(0);
    expect(stderr).toMatch(complaint);
  });
});
