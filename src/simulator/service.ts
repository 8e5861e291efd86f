#!/usr/bin/env node
/**
 * A simulated native service: a process of its own with a page on a loopback port, which holds memory of the simulated
 * card for as long as it lives (its open connection to the simulator is the holding).
 */
import { createServer } from 'node:http';
import { parseArgs } from 'node:util';
import { type LineStream, openLines } from './jsonLines.js';
import type { PageAnswer, ServiceOrder } from './services.js';

/** It tries to get back to a simulator that was started again this often, in real ms. */
const RECONNECT_MS = 250;
/** Without a simulator for so long, in real ms, its host is gone, and so is this process. */
const HOST_GONE_MS = 30_000;

const { values: options } = parseArgs({
  options: { simulator: { type: 'string', default: '' }, name: { type: 'string', default: '' } },
});
const { name } = options;

let isUp = false;
let ending = false;
let stopMs = 0;
let page: { port: number; path: string } | null = null;
let hold: LineStream | undefined;
let connectedAt = Date.now();

const server = createServer((request, response) => {
  const path = request.url ?? '/';
  void ask<PageAnswer>('/service/page', { pid: process.pid, path }, { status: 200, failure: null }).then(
    ({ status, failure }) => {
      response.writeHead(status, { 'content-type': 'application/json', connection: 'close' });
      response.end(JSON.stringify({ service: name, status, error: failure }));
      if (failure !== null) response.on('finish', () => fail(failure));
    },
  );
});
server.on('error', (error) => fail(error.message));

/** Connects to the simulator. This is the process's place on the simulated host; a lost connection is made anew. */
function connect(): void {
  let answered = false;
  const visibleDevices = process.env['CUDA_VISIBLE_DEVICES'] ?? null;
  const hello = { pid: process.pid, name, visibleDevices, isUp };
  hold = openLines(new URL('/service/hold', options.simulator).href, 'POST', hello, {
    line: (value) => {
      answered = true;
      const refusal = (value as { error?: string }).error;
      if (refusal === undefined) follow(value as ServiceOrder);
      else fail(refusal);
    },
    end: () => {
      if (answered) connectedAt = Date.now();
      if (ending) return;
      if (!answered && !isUp) fail('no driver answers');
      else if (Date.now() - connectedAt > HOST_GONE_MS) leave(1);
      else setTimeout(connect, RECONNECT_MS);
    },
  });
}

function follow(order: ServiceOrder): void {
  switch (order.kind) {
    case 'play':
      ({ stopMs, health: page } = order);
      say(isUp ? 'connected again' : `starting on ${order.gpu ?? 'the CPU'}`);
      break;
    case 'up':
      isUp = true;
      if (page === null) say('ready');
      else server.listen(page.port, '127.0.0.1', () => say(`ready on http://127.0.0.1:${page?.port}${page?.path}`));
      break;
    case 'fail':
      fail(order.reason);
      break;
    case 'crash':
      process.kill(process.pid, 'SIGKILL');
  }
}

function fail(reason: string): void {
  if (ending) return;
  say(`error: ${reason}`);
  leave(1);
}

/** A signal is heard at once, or, where the simulator says so, never. */
async function stop(): Promise<void> {
  if (ending) return;
  const { ignored } = await ask('/service/term', { name }, { ignored: false });
  if (ignored || ending) return;
  ending = true;
  say('stopping');
  server.close();
  setTimeout(() => leave(0), stopMs);
}

function leave(code: number): void {
  ending = true;
  hold?.close();
  process.exit(code);
}

/** A simulator that is away has no faults to play. */
function ask<T>(path: string, body: object, otherwise: T): Promise<T> {
  return fetch(new URL(path, options.simulator), {
    method: 'POST',
    headers: { 'content-type': 'application/json' },
    body: JSON.stringify(body),
  }).then(
    (answer) => answer.json() as Promise<T>,
    () => otherwise,
  );
}

function say(text: string): void {
  process.stdout.write(`${name}: ${text}\n`);
}

// Whoever reads its output may leave before it does.
process.stdout.on('error', () => {});
process.on('SIGTERM', () => void stop());
process.on('SIGINT', () => void stop());
connect();
