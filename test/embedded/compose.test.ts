/** The production set-up as a structure: no image can be pulled in a test, but its rules can be held. */
import { existsSync } from 'node:fs';
import { readFile } from 'node:fs/promises';

import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';

const serviceSchema = z.object({
  image: z.string(),
  command: z.array(z.string()).optional(),
  ports: z.array(z.string()).optional(),
  volumes: z.array(z.union([z.string(), z.object({ source: z.string(), read_only: z.literal(true) })])).optional(),
  depends_on: z.record(z.string(), z.object({ condition: z.string() })).optional(),
  healthcheck: z.object({ test: z.array(z.string()) }).optional(),
  pid: z.string().optional(),
  restart: z.string(),
  deploy: z
    .object({
      resources: z.object({
        reservations: z.object({ devices: z.array(z.object({ capabilities: z.array(z.string()) })) }),
      }),
    })
    .optional(),
});

const composeSchema = z.object({
  services: z.record(z.string(), serviceSchema),
  volumes: z.record(z.string(), z.null()),
});

const text = await readFile('docker-compose.yml', 'utf8');
const { services, volumes } = composeSchema.parse(parse(text, { merge: true }));
const pins = Object.fromEntries(
  (await readFile('.env', 'utf8'))
    .split('\n')
    .filter((line) => /^[A-Z]/.test(line))
    .map((line) => line.split('=', 2)),
) as Record<string, string>;

describe('docker-compose.yml', () => {
  it('takes every version from .env, where each is exact', () => {
    for (const { image } of Object.values(services)) {
      const [, variable] = /:\$\{(\w+_VERSION)\}$/.exec(image) ?? [];
      if (variable === undefined) expect(image).toBe('vramflow:local');
      else expect(pins[variable]).toMatch(/^\d+\.\d+/);
    }
    const required = [...text.matchAll(/(?<!\$)\$\{(\w+)\}/g)].map(([, name = '']) => name);
    for (const name of required) expect(pins[name], name).toBeDefined();
    expect(pins['TEMPORAL_ADMINTOOLS_VERSION']?.startsWith(pins['TEMPORAL_VERSION'] ?? '?')).toBe(true);
  });

  it('opens ports on loopback only, and none of the database', () => {
    const ports = Object.values(services).flatMap((service) => service.ports ?? []);
    expect(ports.length).toBeGreaterThan(0);
    for (const port of ports) expect(port).toMatch(/^127\.0\.0\.1:/);
    expect(services['postgresql']?.ports).toBeUndefined();
  });

  it('starts in the order of health: what is waited for healthy has a health check', () => {
    for (const [name, service] of Object.entries(services)) {
      for (const [other, { condition }] of Object.entries(service.depends_on ?? {})) {
        expect(services[other], `${name} → ${other}`).toBeDefined();
        if (condition === 'service_healthy') expect(services[other]?.healthcheck, other).toBeDefined();
        else {
          expect(condition).toBe('service_completed_successfully');
          expect(services[other]?.restart).toMatch(/^on-failure/);
        }
      }
    }
    const order = (name: string): string[] =>
      Object.keys(services[name]?.depends_on ?? {}).flatMap((other) => [...order(other), other]);
    const chain = ['postgresql', 'temporal-schema', 'temporal', 'temporal-namespace'];
    expect(order('control')).toEqual(chain);
    expect(order('agent')).toEqual(chain);
  });

  it('gives the agent the GPUs and the sight of the host’s processes, and the control worker neither', () => {
    expect(services['agent']).toMatchObject({ pid: 'host', command: expect.arrayContaining(['agent']) as string[] });
    expect(services['agent']?.deploy?.resources.reservations.devices[0]?.capabilities).toContain('gpu');
    expect(services['control']?.pid).toBeUndefined();
    expect(services['control']?.deploy).toBeUndefined();
  });

  it('keeps data in named volumes only', () => {
    const mounts = Object.values(services).flatMap((service) => service.volumes ?? []);
    // What is not a text is the configuration, read only.
    for (const mount of mounts.filter((mount) => typeof mount === 'string')) {
      expect(Object.keys(volumes)).toContain(mount.split(':')[0]);
    }
  });
});

describe('the Dockerfile', () => {
  it('copies only what its context lets in and what exists', async () => {
    const dockerfile = await readFile('Dockerfile', 'utf8');
    const allowed = (await readFile('.dockerignore', 'utf8'))
      .split('\n')
      .filter((line) => line.startsWith('!'))
      .map((line) => line.slice(1));
    const copied = [...dockerfile.matchAll(/^COPY (?!--from)(.+) \S+$/gm)].flatMap(([, names = '']) =>
      names.split(' '),
    );
    expect(copied.length).toBeGreaterThan(3);
    for (const name of copied) {
      expect(allowed).toContain(name);
      expect(existsSync(name), name).toBe(true);
    }
    expect(dockerfile).toContain(`NODE_VERSION=${pins['NODE_VERSION']}`);
  });

  it('runs the workers as a user id that no one is likely to have on the host', async () => {
    // Those of people begin at 1000, those of the system are below.
    const [, user] = /^USER (\d+):\d+$/m.exec(await readFile('Dockerfile', 'utf8')) ?? [];
    expect(Number(user)).toBeGreaterThan(10_000);
  });
});
