/** The Docker daemon: each request bounded in time, each failure sorted. */
import type { Readable } from 'node:stream';

import Docker, { type ContainerCreateOptions, type ContainerInspectInfo } from 'dockerode';

import { timeLimit } from '../timeLimit.js';
import { clientOptions, type DaemonAddress, describeAddress } from './address.js';
import { DockerAnswer, refused, unreachable } from './failures.js';

/** For what the daemon only looks up. */
const LOOK_MS = 5_000;
/** From a request to the answer's first byte, for streams. */
const STREAM_MS = 5_000;
/** Making a container unpacks nothing; on a busy disk it takes seconds all the same. */
const CREATE_MS = 30_000;

export type Daemon = ReturnType<typeof createDaemon>;

/** Requests reject with DockerAnswer for a refusal, with NoAnswer for none, and with the signal's reason on abort. */
export function createDaemon(address: DaemonAddress) {
  const docker = new Docker(clientOptions(address));

  /** @param limitMs null: the signal alone is the limit */
  async function ask<T>(limitMs: number | null, signal: AbortSignal, send: (abortSignal: AbortSignal) => Promise<T>) {
    signal.throwIfAborted();
    const limit = limitMs === null ? null : timeLimit(limitMs);
    const either = limit === null ? signal : AbortSignal.any([signal, limit]);
    try {
      // Not every request of dockerode's heeds the signal.
      return await Promise.race([send(either), rejectOnAbort(either)]);
    } catch (error) {
      signal.throwIfAborted();
      throw failureOf(error, limit?.aborted ? limitMs : null);
    }
  }

  function failureOf(error: unknown, limitMs: number | null): Error {
    const { statusCode, json, message } = error as { statusCode?: number; json?: unknown; message: string };
    if (statusCode !== undefined) return new DockerAnswer(statusCode, saidIn(json) ?? message.trim());
    return unreachable(address, error as NodeJS.ErrnoException, limitMs);
  }

  /** An answer that is read while it comes; the limit holds for its begin only. */
  async function open(signal: AbortSignal, send: (abortSignal: AbortSignal) => Promise<NodeJS.ReadableStream>) {
    const opened = new AbortController();
    const late = setTimeout(() => opened.abort(), STREAM_MS);
    try {
      const stream = (await send(AbortSignal.any([signal, opened.signal]))) as Readable;
      // Whoever reads it hears of its breaking; it may also break before anybody does, and that must not end the agent.
      stream.on('error', () => {});
      return stream;
    } catch (error) {
      signal.throwIfAborted();
      throw failureOf(error, opened.signal.aborted ? STREAM_MS : null);
    } finally {
      clearTimeout(late);
    }
  }

  return {
    address: describeAddress(address),

    async ping(signal: AbortSignal): Promise<void> {
      // Its types lack the options.
      const client = docker as unknown as { ping(options: { abortSignal: AbortSignal }): Promise<unknown> };
      await ask(LOOK_MS, signal, (abortSignal) => client.ping({ abortSignal })).catch((error: unknown) => {
        throw error instanceof DockerAnswer ? refused(address, error) : error;
      });
    },

    /** Null when no container has exactly this name, or this id. */
    async inspect(nameOrId: string, signal: AbortSignal): Promise<ContainerInspectInfo | null> {
      const found = await ask(LOOK_MS, signal, (abortSignal) =>
        docker.getContainer(encodeURIComponent(nameOrId)).inspect({ abortSignal }),
      ).catch(noneIfMissing);
      // Docker takes the beginning of an id for a name too.
      return found !== null && (found.Name === `/${nameOrId}` || found.Id === nameOrId) ? found : null;
    },

    /** The running containers with this label. */
    async runningWith(label: string, value: string, signal: AbortSignal) {
      const filters = { label: [`${label}=${value}`] };
      const found = await ask(LOOK_MS, signal, (abortSignal) => docker.listContainers({ filters, abortSignal }));
      return found.map(({ Id, Labels }) => ({ id: Id, labels: Labels }));
    },

    /** Ids of the container's processes, in the PID namespace of the daemon. */
    async pids(id: string, signal: AbortSignal): Promise<number[]> {
      const answer: { Titles: string[]; Processes: string[][] | null } = await ask(LOOK_MS, signal, (abortSignal) =>
        docker.getContainer(id).top({ ps_args: '-eo pid', abortSignal }),
      );
      const column = answer.Titles.indexOf('PID');
      return (answer.Processes ?? []).map((row) => Number(row[column])).filter(Number.isInteger);
    },

    /** Null when the image is not on this machine. */
    async imageId(name: string, signal: AbortSignal): Promise<string | null> {
      const found = await ask(LOOK_MS, signal, () => docker.getImage(name).inspect()).catch(noneIfMissing);
      return found?.Id ?? null;
    },

    async create({ name, ...body }: ContainerCreateOptions & { name: string }, signal: AbortSignal): Promise<string> {
      // Told apart, or dockerode puts the whole of it, secrets included, into the URL.
      const split = { _query: { name }, _body: body } as ContainerCreateOptions;
      const made = await ask(CREATE_MS, signal, (abortSignal) => docker.createContainer({ ...split, abortSignal }));
      return made.id;
    },

    /** Runs the hooks of the GPU runtime, which may take minutes with many GPUs, and for ever with a lost one: the caller bounds it. */
    async start(id: string, signal: AbortSignal): Promise<void> {
      await ask(null, signal, (abortSignal) => docker.getContainer(id).start({ abortSignal })).catch(
        nothingIf(NOT_MODIFIED),
      );
    },

    /**
     * Sends the container's stop signal and waits, at most `limitMs`, until it has ended. Docker keeps to whole seconds, and
     * kills by itself after these, also when nobody waits any more.
     */
    async stop(id: string, limitMs: number, signal: AbortSignal): Promise<void> {
      const t = Math.ceil(limitMs / 1000);
      await ask(limitMs, signal, (abortSignal) => docker.getContainer(id).stop({ t, abortSignal })).catch(
        nothingIf(NOT_MODIFIED, NOT_FOUND),
      );
    },

    /** Sends SIGKILL and waits, at most `limitMs`, until it has ended. */
    async kill(id: string, limitMs: number, signal: AbortSignal): Promise<void> {
      await ask(limitMs, signal, (abortSignal) => docker.getContainer(id).kill({ abortSignal })).catch(
        nothingIf(CONFLICT, NOT_FOUND),
      );
    },

    /** Of a container that does not run. Its volumes stay: they may hold what is costly to get again. */
    async remove(id: string, signal: AbortSignal): Promise<void> {
      await ask(CREATE_MS, signal, (abortSignal) => docker.getContainer(id).remove({ abortSignal })).catch(
        nothingIf(NOT_FOUND),
      );
    },

    /**
     * Both outputs as frames, each line with its time in front.
     * @param options.since seconds since the epoch, as text
     * @param options.tail `all`, or so many lines
     */
    logs(
      id: string,
      options: { since: string; tail: number | 'all'; follow: boolean; signal: AbortSignal },
    ): Promise<Readable> {
      const { signal, ...wanted } = options;
      return open(signal, (abortSignal) => {
        // `follow` makes dockerode give the answer as it comes; the query says what Docker is asked for.
        const query = {
          follow: true,
          abortSignal,
          _query: { stdout: true, stderr: true, timestamps: true, ...wanted },
        };
        return docker.getContainer(id).logs(query as { follow: true });
      });
    },

    /** Of all containers: what begins, ends, or changes its name or health. One JSON object a line. */
    events(signal: AbortSignal): Promise<Readable> {
      const filters = { type: ['container'], event: [...EVENTS] };
      return open(signal, (abortSignal) => docker.getEvents({ filters: JSON.stringify(filters), abortSignal }));
    },
  };
}

const EVENTS = ['start', 'die', 'destroy', 'rename', 'health_status'] as const;

const NOT_MODIFIED = 304;
const NOT_FOUND = 404;
const CONFLICT = 409;

function noneIfMissing(error: unknown): null {
  if (error instanceof DockerAnswer && error.status === NOT_FOUND) return null;
  throw error;
}

const nothingIf =
  (...statuses: number[]) =>
  (error: unknown): void => {
    if (!(error instanceof DockerAnswer) || !statuses.includes(error.status)) throw error;
  };

function rejectOnAbort(signal: AbortSignal): Promise<never> {
  return new Promise((_resolve, reject) => {
    if (signal.aborted) reject(signal.reason as Error);
    else signal.addEventListener('abort', () => reject(signal.reason as Error), { once: true });
  });
}

function saidIn(json: unknown): string | null {
  const said = (json as { message?: unknown } | null)?.message;
  return typeof said === 'string' ? said : null;
}
