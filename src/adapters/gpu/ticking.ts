/** A reader that asks no hardware: it repeats what is known without one, so that samples stay fresh. */
import type { GpuReader, GpuReading } from './reader.js';

export function createTickingReader(
  kind: GpuReader['kind'],
  clock: { now(): number },
  content: { gpus: GpuReading[]; problem: string },
): GpuReader {
  let periodMs = 1_000;
  let timer: NodeJS.Timeout | undefined;
  let tick = (): void => {};

  const restart = (): void => {
    clearInterval(timer);
    timer = setInterval(() => tick(), periodMs);
  };

  return {
    kind,
    async start(onSample) {
      tick = () => onSample({ takenAt: clock.now(), processes: null, ...content });
      tick();
      restart();
    },
    setPeriod(ms) {
      periodMs = ms;
      if (timer !== undefined) restart();
    },
    async stop() {
      clearInterval(timer);
      timer = undefined;
      tick = () => {};
    },
  };
}
