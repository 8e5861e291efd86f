import type { ServerResponse } from 'node:http';
import { type Cancel, type Clock, SystemClock } from './clock.js';
import type { SimulatedContainer } from './container.js';
import type { ContainerConfig } from './containerConfig.js';
import type { LogMessage } from './containerLog.js';
import type { Containers, DockerEvent } from './containers.js';
import { inspection, listEntry, logFrame } from './dockerShapes.js';
import { DockerError } from './errors.js';

/** The version that it plays, and the API's of it. */
const VERSION = { Version: '20.10.24', ApiVersion: '1.41', MinAPIVersion: '1.12', Os: 'linux', Arch: 'amd64' };

/** Docker's own grace, in seconds, where nobody says another. */
const DEFAULT_GRACE_S = 10;

interface DockerContext {
  readonly clock: Clock;
  readonly containers: Containers;
}

interface DockerRequest {
  /** What the pattern of the path captured. */
  readonly name: string;
  readonly query: URLSearchParams;
  readonly body: string;
  /** For answers that go on until the client leaves. */
  readonly response: ServerResponse;
}

/** Null: the handler itself answers. */
type Answer = { readonly status: number; readonly json?: object; readonly text?: string } | null;

type Handler = (context: DockerContext, request: DockerRequest) => Answer | Promise<Answer>;

const NO_CONTENT = { status: 204 };
const NOT_MODIFIED = { status: 304 };
const ok = (json: object): Answer => ({ status: 200, json });

/** By method and path, after the version in front. */
const ROUTES: readonly (readonly [method: string, path: RegExp, handler: Handler])[] = [
  ['GET', /^\/_ping$/, () => ({ status: 200, text: 'OK' })],
  ['GET', /^\/version$/, () => ok(VERSION)],
  ['GET', /^\/containers\/json$/, ({ containers }, { query }) => ok(list(containers, query))],
  ['POST', /^\/containers\/create$/, create],
  ['GET', /^\/containers\/([^/]+)\/json$/, async (context, { name }) => ok(inspection(await settled(context, name)))],
  ['POST', /^\/containers\/([^/]+)\/start$/, start],
  ['POST', /^\/containers\/([^/]+)\/stop$/, stop],
  ['POST', /^\/containers\/([^/]+)\/kill$/, kill],
  ['POST', /^\/containers\/([^/]+)\/wait$/, wait],
  ['GET', /^\/containers\/([^/]+)\/top$/, top],
  ['GET', /^\/containers\/([^/]+)\/logs$/, logs],
  ['DELETE', /^\/containers\/([^/]+)$/, remove],
  [
    'GET',
    /^\/images\/(.+)\/json$/,
    ({ containers }, { name }) => ok({ Id: containers.imageId(name), RepoTags: [name] }),
  ],
  ['GET', /^\/events$/, events],
];

/** @throws {DockerError} 404 for a page that the daemon does not have, and what the handlers throw */
export async function route(
  context: DockerContext,
  method: string,
  url: URL,
  request: Pick<DockerRequest, 'body' | 'response'>,
): Promise<Answer> {
  const path = url.pathname.replace(/^\/v\d+\.\d+(?=\/)/, '');
  for (const [wanted, pattern, handler] of ROUTES) {
    const found = wanted === method ? pattern.exec(path) : null;
    if (found === null) continue;
    return handler(context, { ...request, name: decodeURIComponent(found[1] ?? ''), query: url.searchParams });
  }
  throw new DockerError(404, 'page not found');
}

/** The daemon holds a container for as long as it starts it: whoever asks for it meanwhile waits. */
async function settled({ containers }: DockerContext, name: string): Promise<SimulatedContainer> {
  const container = containers.find(name);
  await container.settled();
  return container;
}

function list(containers: Containers, query: URLSearchParams): object[] {
  const all = query.get('all') !== null;
  const filters = JSON.parse(query.get('filters') ?? '{}') as { label?: string[] };
  const isAsked = ({ state: { config } }: SimulatedContainer): boolean =>
    (filters.label ?? []).every((asked) => {
      const [label = '', ...value] = asked.split('=');
      return config.Labels[label] === value.join('=');
    });
  return containers.all
    .filter((container) => (all || container.isRunning) && isAsked(container))
    .map((container) => listEntry(container));
}

function create({ containers }: DockerContext, { query, body }: DockerRequest): Answer {
  const { Image, Cmd, Env, Labels, HostConfig } = JSON.parse(body) as Partial<ContainerConfig>;
  if (Image === undefined) throw new DockerError(400, 'config cannot be empty in order to create a container');
  const config = { Image, Cmd: Cmd ?? [], Env: Env ?? [], Labels: Labels ?? {}, HostConfig: HostConfig ?? {} };
  const name = query.get('name') ?? `sim_${containers.all.length}`;
  return { status: 201, json: { Id: containers.create(name, config).state.id, Warnings: [] } };
}

async function start(context: DockerContext, { name }: DockerRequest): Promise<Answer> {
  const container = await settled(context, name);
  if (container.isRunning) return NOT_MODIFIED;
  await container.start();
  return NO_CONTENT;
}

/** Asks, waits for the grace, kills; and answers when it has ended, if ever. */
async function stop(context: DockerContext, { name, query }: DockerRequest): Promise<Answer> {
  const { clock } = context;
  const container = await settled(context, name);
  if (!container.isRunning) return NOT_MODIFIED;
  container.askToStop();
  // The grace is the caller's, so it passes at real speed, whatever the speed of the simulated host.
  const speed = clock instanceof SystemClock ? clock.speed : 1;
  const graceMs = Number(query.get('t') ?? DEFAULT_GRACE_S) * 1000 * speed;
  let cancel: Cancel = () => {};
  const grace = new Promise<void>((resolve) => {
    cancel = clock.after(graceMs, resolve);
  });
  await Promise.race([container.ended(), grace]);
  cancel();
  if (container.isRunning) container.kill();
  await container.ended();
  return NO_CONTENT;
}

async function kill(context: DockerContext, { name, query }: DockerRequest): Promise<Answer> {
  const container = await settled(context, name);
  const { id } = container.state;
  if (!container.isRunning) {
    throw new DockerError(409, `Cannot kill container: ${name}: Container ${id} is not running`);
  }
  if (/^(SIG)?TERM$|^15$/.test(query.get('signal') ?? 'SIGKILL')) {
    container.askToStop();
    return NO_CONTENT;
  }
  container.kill();
  await container.ended();
  return NO_CONTENT;
}

async function wait({ containers }: DockerContext, { name }: DockerRequest): Promise<Answer> {
  const container = containers.find(name);
  await container.ended();
  return ok({ StatusCode: container.state.exitCode });
}

function top({ containers }: DockerContext, { name }: DockerRequest): Answer {
  const container = containers.find(name);
  const pids = containers.pidsOf(container);
  if (pids.length === 0) throw new DockerError(409, `Container ${container.state.id} is not running`);
  return ok({ Titles: ['PID'], Processes: pids.map((pid) => [String(pid)]) });
}

async function remove({ containers }: DockerContext, { name, query }: DockerRequest): Promise<Answer> {
  await containers.remove(containers.find(name), isTrue(query.get('force')));
  return NO_CONTENT;
}

function logs({ containers }: DockerContext, { name, query, response }: DockerRequest): null {
  const container = containers.find(name);
  const wanted = (message: LogMessage): boolean =>
    isTrue(query.get(message.output)) && message.at >= Number(query.get('since') ?? 0) * 1000;
  const kept = container.log.messages.filter(wanted);
  const tail = query.get('tail') ?? 'all';
  const count = tail === 'all' ? kept.length : Number(tail);
  const send = (message: LogMessage): void => {
    if (wanted(message)) response.write(logFrame(message, isTrue(query.get('timestamps'))));
  };
  begin(response, 'application/vnd.docker.raw-stream');
  for (const message of kept.slice(kept.length - Math.min(count, kept.length))) send(message);
  if (isTrue(query.get('follow')) && container.isRunning) follow(container, send, response);
  else response.end();
  return null;
}

/** Until the run ends or the client leaves. */
function follow(container: SimulatedContainer, send: (message: LogMessage) => void, response: ServerResponse): void {
  const unwatch = container.log.watch(send);
  response.on('close', unwatch);
  void container.ended().then(() => response.end());
}

function events({ containers }: DockerContext, { query, response }: DockerRequest): null {
  const filters = JSON.parse(query.get('filters') ?? '{}') as Record<string, string[] | undefined>;
  const wanted = ({ Type, Action }: DockerEvent): boolean =>
    (filters['type']?.includes(Type) ?? true) && (filters['event']?.includes(Action.split(':', 1)[0] ?? '') ?? true);
  begin(response, 'application/json');
  const unwatch = containers.watch((event) => {
    if (wanted(event)) response.write(`${JSON.stringify(event)}\n`);
  });
  response.on('close', unwatch);
  return null;
}

/** The head goes out at once, as the daemon's does: whoever waits for it knows that it is listened to. */
function begin(response: ServerResponse, type: string): void {
  response.writeHead(200, { 'content-type': type });
  response.flushHeaders();
}

function isTrue(value: string | null): boolean {
  return value === '1' || value === 'true';
}
