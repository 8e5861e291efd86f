/** The output of a service's current or last run, and with `follow` that of the runs to come. */
import type { Readable } from 'node:stream';

import type { ContainerInspectInfo } from 'dockerode';

import type { Daemon } from './daemon.js';
import { NoAnswer, refusal } from './failures.js';
import { isRunning, NEVER } from './inspection.js';
import { createLogReader, secondsOf } from './logLines.js';
import type { DockerService } from './service.js';

/** Docker notes the time of a start only once the process runs, and that may have written already. */
const BEFORE_START_NS = -500_000_000n;

interface LogSource {
  service: DockerService;
  daemon: Daemon;
  /** The container as it is now; null when there is none. */
  locate(signal: AbortSignal): Promise<ContainerInspectInfo | null>;
  /** Resolves at the next run, or when the daemon is back. */
  news(signal: AbortSignal): Promise<void>;
}

export async function* readLogs(
  source: LogSource,
  options: { tail: number; follow: boolean; signal: AbortSignal },
): AsyncGenerator<string, void, undefined> {
  const { follow } = options;
  // Leaving the loop early ends the request too.
  const left = new AbortController();
  const signal = AbortSignal.any([options.signal, left.signal]);
  let tail: number | 'all' = options.tail;
  let after: string | null = null;
  try {
    for (;;) {
      // Listened for before the look, so that no run is missed.
      const news = follow ? source.news(signal) : Promise.resolve();
      try {
        const found = await source.locate(signal);
        if (found !== null) {
          const since: string = later(beginOf(found), after);
          // The tail is of this run: one that begins meanwhile is read whole, by the next turn.
          const further = follow && isRunning(found.State);
          const stream = await source.daemon.logs(found.Id, { since, tail, follow: further, signal });
          for await (const { time, text } of linesOf(stream, found.Config.Tty)) {
            if (time !== '') after = secondsOf(time, 1n);
            yield text;
          }
        }
      } catch (error) {
        if (options.signal.aborted) return;
        // A daemon that went away may come back, and the lines with it.
        if (!follow || !(error instanceof NoAnswer || isCutOff(error))) throw refusal(source.service, 'read', error);
      }
      if (!follow) return;
      tail = 'all';
      await news;
      if (options.signal.aborted) return;
    }
  } finally {
    left.abort();
  }
}

async function* linesOf(stream: Readable, tty: boolean) {
  const reader = createLogReader(tty);
  for await (const chunk of stream) yield* reader.push(chunk as Buffer);
  yield* reader.end();
}

/** A container keeps the output of all its runs; what an earlier one said must not be taken for this one's. */
function beginOf({ State: { StartedAt, FinishedAt } }: ContainerInspectInfo): string {
  if (StartedAt === NEVER) return '0';
  const begin = secondsOf(StartedAt, BEFORE_START_NS);
  const formerEnd = secondsOf(FinishedAt);
  return Number(formerEnd) < Number(secondsOf(StartedAt)) ? later(begin, formerEnd) : begin;
}

function later(one: string, other: string | null): string {
  return other !== null && Number(other) > Number(one) ? other : one;
}

/** The connection broke within the answer. */
function isCutOff(error: unknown): boolean {
  const { code } = error as NodeJS.ErrnoException;
  return code === 'ECONNRESET' || code === 'ERR_STREAM_PREMATURE_CLOSE' || code === 'EPIPE';
}
