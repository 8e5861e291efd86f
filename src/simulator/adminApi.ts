import type { AddressInfo } from 'node:net';
import fastify, { type FastifyInstance } from 'fastify';
import { flag, number, object, oneOf, optional, text } from './adminInput.js';
import { describeFaults, describeState, type SimulatorParts } from './adminState.js';
import { SystemClock } from './clock.js';
import { BadRequest, OutOfMemory, unknownName } from './errors.js';
import type { FaultParams } from './faults.js';
import type { Preset } from './presets.js';
import { sampleOf } from './sample.js';
import { serviceRoutes } from './serviceRoutes.js';
import { streamLines } from './streamLines.js';

/** A stream of samples is sent no more often than this, in real ms. */
const SHORTEST_PERIOD_MS = 5;

export interface AdminApi {
  readonly url: string;
  close(): Promise<void>;
}

/** The endpoint from which tests and people drive the simulated host; on loopback only. */
export async function startAdminApi(parts: SimulatorParts, preset: Preset, port: number): Promise<AdminApi> {
  // A stream that is open must not keep the endpoint from closing.
  const app = fastify({ forceCloseConnections: true });
  app.setErrorHandler((error: Error & { statusCode?: number }, _request, reply) => {
    const status = error instanceof BadRequest ? 400 : error instanceof OutOfMemory ? 409 : (error.statusCode ?? 500);
    void reply
      .status(status)
      .send({ error: error.message, remedy: error instanceof OutOfMemory ? lessThan(error) : null });
  });
  readRoutes(app, parts, preset);
  hostRoutes(app, parts, preset);
  ollamaRoutes(app, parts);
  embedderRoutes(app, parts);
  serviceRoutes(app, parts);
  await app.listen({ port, host: '127.0.0.1' });
  const address = app.server.address() as AddressInfo;
  return { url: `http://127.0.0.1:${address.port}`, close: () => app.close() };
}

const lessThan = ({ freeMb }: OutOfMemory): string =>
  freeMb > 0
    ? `Ask for at most ${freeMb} MB, name another GPU (gpu=…), or free some of it first.`
    : 'Name another GPU (gpu=…), or free some of it first.';

function readRoutes(app: FastifyInstance, parts: SimulatorParts, preset: Preset): void {
  app.get('/state', () => describeState(parts, preset));
  app.get('/record', (request) => {
    const after = Number((request.query as { after?: string }).after ?? 0);
    const { entries, truncated } = parts.recorder.after(Number.isFinite(after) ? after : 0);
    return { entries, truncated, lastSeq: parts.recorder.lastSeq };
  });
  app.get('/gpus', (request, reply) => {
    const everyMs = Number((request.query as { everyMs?: string }).everyMs);
    if (!Number.isFinite(everyMs)) return sampleOf(parts.gpuHost, parts.faults);
    const send = streamLines(reply);
    const sendSample = (): void => send(sampleOf(parts.gpuHost, parts.faults));
    sendSample();
    const timer = setInterval(sendSample, Math.max(SHORTEST_PERIOD_MS, everyMs));
    reply.raw.on('close', () => clearInterval(timer));
    return reply;
  });
}

function hostRoutes(
  app: FastifyInstance,
  { faults, gpuHost, clock, embedders, ollama, recorder }: SimulatorParts,
  preset: Preset,
): void {
  app.get('/faults', () => describeFaults(faults));
  app.post('/faults', (request) => {
    const { name, ...params } = object(request.body);
    // One that concerns nothing would be set, and never happen.
    const [gpu, model] = [optional(params, 'gpu', text), optional(params, 'model', text)];
    if (gpu !== null) gpuHost.card(gpu);
    if (model !== null) checkModel(model, preset);
    faults.set(text({ name }, 'name'), params as FaultParams);
    return describeFaults(faults);
  });
  app.delete('/faults', () => {
    faults.clear();
    return describeFaults(faults);
  });
  app.delete('/faults/:name', (request) => {
    faults.clear((request.params as { name: string }).name);
    return describeFaults(faults);
  });
  app.post('/foreign', (request) => {
    const body = object(request.body);
    const gpu = gpuHost.card(optional(body, 'gpu', (b, key) => String(b[key])) ?? 0).spec.uuid;
    const mb = number(body, 'mb');
    const kind =
      optional(body, 'kind', (b, key) => oneOf<'compute' | 'graphics'>(b, key, ['compute', 'graphics'])) ?? 'compute';
    const foreign = gpuHost.startProcess(kind, optional(body, 'name', text) ?? '/usr/bin/foreign');
    try {
      gpuHost.resize(foreign, gpu, mb);
    } catch (error) {
      void gpuHost.end(foreign);
      throw error;
    }
    return { pid: foreign.pid, gpu, mb, kind };
  });
  app.patch('/foreign/:pid', (request) => {
    const process = gpuHost.processOf(Number((request.params as { pid: string }).pid));
    const body = object(request.body);
    const held = gpuHost.cards.find((card) => card.holdings.has(process.holder)) ?? gpuHost.card(0);
    const gpu = optional(body, 'gpu', (b, key) => gpuHost.card(String(b[key]))) ?? held;
    gpuHost.resize(process, gpu.spec.uuid, number(body, 'mb'));
    return { pid: process.pid, gpu: gpu.spec.uuid, mb: gpuHost.heldMb(process.holder, gpu.spec.uuid) };
  });
  app.delete('/foreign/:pid', (request) => {
    const process = gpuHost.processOf(Number((request.params as { pid: string }).pid));
    if (process.kind === 'embedder' || process.kind === 'service') {
      throw new BadRequest(`this ${process.kind} is a real process: end that`);
    }
    if (process.kind === 'container') throw new BadRequest('a container is ended through Docker');
    void gpuHost.end(process);
    return { pid: process.pid };
  });
  app.post('/cards/:gpu', (request) => {
    const card = gpuHost.card((request.params as { gpu: string }).gpu);
    const body = object(request.body);
    card.temperatureC = optional(body, 'temperature', number) ?? card.temperatureC;
    card.utilizationPercent = optional(body, 'utilization', number) ?? card.utilizationPercent;
    return { gpu: card.spec.uuid, temperature: card.temperatureC, utilization: card.utilizationPercent };
  });
  app.post('/speed', (request) => {
    const speed = number(object(request.body), 'speed');
    if (!(clock instanceof SystemClock) || speed === 0) throw new BadRequest('this clock has no such speed');
    clock.speed = speed;
    recorder.add({ kind: 'speed', speed });
    return { speed };
  });
  app.post('/settings', (request) => {
    const body = object(request.body);
    gpuHost.reclaimMs = optional(body, 'reclaimMs', number) ?? gpuHost.reclaimMs;
    embedders.mb = optional(body, 'embedderMb', number) ?? embedders.mb;
    ollama.maxLoadedModels = optional(body, 'maxLoadedModels', number) ?? ollama.maxLoadedModels;
    return { reclaimMs: gpuHost.reclaimMs, embedderMb: embedders.mb, maxLoadedModels: ollama.maxLoadedModels };
  });
}

function checkModel(model: string, { models }: Preset): void {
  const plain = (name: string) => name.replace(/:latest$/, '');
  const names = models.map(({ name }) => name);
  if (!names.some((name) => plain(name) === plain(model))) unknownName('model', model, names);
}

function ollamaRoutes(app: FastifyInstance, { ollama }: SimulatorParts): void {
  app.post('/ollama/stop', async (request) => {
    await ollama.stop(optional(object(request.body), 'orphans', flag) ?? false);
    return { running: ollama.running };
  });
  app.post('/ollama/start', async () => {
    await ollama.start();
    return { running: ollama.running };
  });
  app.post('/ollama/crash-runner', (request) => {
    ollama.crashRunner(text(object(request.body), 'model'));
    return {};
  });
}

function embedderRoutes(app: FastifyInstance, { embedders, clock }: SimulatorParts): void {
  const realMs = (simulatedMs: number): number => simulatedMs / (clock instanceof SystemClock ? clock.speed : 1);
  app.post('/embedder/hold', (request, reply) => {
    const body = object(request.body);
    const device = oneOf(body, 'device', ['cpu', 'cuda']);
    const hello = { pid: number(body, 'pid'), device, gpu: optional(body, 'gpu', text), name: text(body, 'name') };
    const { startMs, failure, disconnect } = embedders.connect(hello);
    // An embedder that died before it was answered must not hold memory for ever.
    reply.raw.on('close', disconnect);
    streamLines(reply)({ startMs: realMs(startMs), failure });
    return reply;
  });
  app.post('/embedder/request', (request) => {
    const body = object(request.body);
    const device = oneOf(body, 'device', ['cpu', 'cuda']);
    const input = oneOf(body, 'input', ['text', 'image']);
    const { slowMs, ...faults } = embedders.serve(number(body, 'pid'), device, input, number(body, 'count'));
    return { ...faults, slowMs: realMs(slowMs) };
  });
}
