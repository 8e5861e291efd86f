import type { SimulatedContainer } from './container.js';
import type { LogMessage } from './containerLog.js';
import { imageIdOf } from './containers.js';

/** Docker's way to say "never". */
const NEVER = '0001-01-01T00:00:00Z';
const HEADER_BYTES = 8;

/** The answer of `/containers/<id>/json`, as far as anybody looks at it. */
export function inspection({ state, isRunning, health }: SimulatedContainer): object {
  const { config, startedAt, finishedAt } = state;
  return {
    Id: state.id,
    Name: `/${state.name}`,
    Created: state.created,
    Image: imageIdOf(config.Image),
    RestartCount: 0,
    State: {
      Status: isRunning ? 'running' : startedAt === null ? 'created' : 'exited',
      Running: isRunning,
      Paused: false,
      Restarting: false,
      OOMKilled: false,
      Dead: false,
      Pid: state.pid ?? 0,
      ExitCode: state.exitCode,
      Error: state.error,
      StartedAt: startedAt ?? NEVER,
      FinishedAt: finishedAt ?? NEVER,
      ...(health === null
        ? {}
        : { Health: { Status: health, FailingStreak: health === 'unhealthy' ? 1 : 0, Log: [] } }),
    },
    Config: { Image: config.Image, Cmd: config.Cmd, Env: config.Env, Labels: config.Labels, Tty: false },
    HostConfig: config.HostConfig,
  };
}

/** A line of `/containers/json`. */
export function listEntry({ state, isRunning }: SimulatedContainer): object {
  const { config, startedAt } = state;
  return {
    Id: state.id,
    Names: [`/${state.name}`],
    Image: config.Image,
    ImageID: imageIdOf(config.Image),
    Created: Math.floor(Date.parse(state.created) / 1000),
    State: isRunning ? 'running' : startedAt === null ? 'created' : 'exited',
    Labels: config.Labels,
  };
}

/** A message of the log as a frame: which output, three bytes of nothing, the length, the line. */
export function logFrame({ output, at, text }: LogMessage, timestamps: boolean): Buffer {
  const time = timestamps ? `${new Date(at).toISOString().replace('Z', '000000Z')} ` : '';
  const line = Buffer.from(`${time}${text}\n`);
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt8(output === 'stdout' ? 1 : 2, 0);
  header.writeUInt32BE(line.length, 4);
  return Buffer.concat([header, line]);
}
