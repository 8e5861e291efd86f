/** What can go wrong between vramflow and Docker, and what to do about it. */
import { ServiceError, type ServiceErrorKind, type ServiceExit } from '../services/driver.js';
import { type DaemonAddress, describeAddress } from './address.js';
import { containerName, type DockerService, isCreated, keyOf } from './service.js';

/** Docker answered, and refused. */
export class DockerAnswer extends Error {
  override readonly name = 'DockerAnswer';
  constructor(
    readonly status: number,
    message: string,
  ) {
    super(message);
  }
}

/** Nobody answered. `late`: it may still come, only not in time. */
export class NoAnswer extends ServiceError {
  constructor(
    kind: ServiceErrorKind,
    message: string,
    remedy: string,
    readonly late: boolean,
    cause: unknown,
  ) {
    super(kind, message, remedy, { cause });
  }
}

/** @param limitMs the time limit that was reached; null when something else failed */
export function unreachable(address: DaemonAddress, error: NodeJS.ErrnoException, limitMs: number | null): NoAnswer {
  const where = describeAddress(address);
  if (limitMs !== null) {
    return new NoAnswer(
      'unavailable',
      `The Docker daemon at ${where} did not answer within ${limitMs / 1000} s.`,
      'Look at it with: docker ps. If that hangs too, a container on a lost GPU may hold it up: sudo systemctl restart docker.',
      true,
      error,
    );
  }
  if (error.code === 'EACCES' || error.code === 'EPERM') {
    return new NoAnswer(
      'not-permitted',
      `This user may not use the Docker daemon at ${where}.`,
      'Add it to the docker group and log in again: sudo usermod -aG docker "$USER" (members of it can become root).',
      false,
      error,
    );
  }
  const away = error.code === 'ENOENT' || error.code === 'ECONNREFUSED';
  return new NoAnswer(
    'unavailable',
    away ? `No Docker daemon listens at ${where}.` : `The Docker daemon at ${where} broke off: ${error.message}.`,
    'Start it (sudo systemctl start docker), or correct docker.socket in the configuration.',
    false,
    error,
  );
}

/** What listens there will not even be asked whether it lives: a proxy, or no daemon at all. */
export function refused(address: DaemonAddress, answer: DockerAnswer): NoAnswer {
  return new NoAnswer(
    'unavailable',
    `What listens at ${describeAddress(address)} answers ${answer.status}: ${answer.message}.`,
    'Check that docker.socket in the configuration is the socket of a Docker daemon.',
    false,
    answer,
  );
}

export function noContainer(service: DockerService): ServiceError {
  const name = containerName(service);
  return new ServiceError(
    'missing',
    `There is no container ${name} for ${service.name}.`,
    `Create it once (docker create --name ${name} …, or docker compose create), or correct ${keyOf(service, 'container')}.`,
  );
}

export function noImage(service: DockerService, image: string): ServiceError {
  return new ServiceError(
    'missing',
    `The image ${image} of ${service.name} is not on this machine.`,
    `Get it with: docker pull ${image} (or docker build), or correct ${keyOf(service, 'image')}.`,
  );
}

export function strangerOf(service: DockerService): ServiceError {
  const name = containerName(service);
  return new ServiceError(
    'failed',
    `A container ${name} is there that this vramflow did not make, so ${service.name} cannot be made.`,
    `Rename it (docker rename ${name} …) or remove it, if it is not needed. vramflow touches only its own.`,
  );
}

export function endedAtOnce(service: DockerService, exit: ServiceExit | null): ServiceError {
  const how = exit?.reason ?? 'how is not known';
  return new ServiceError(
    'failed',
    `${service.name} ended at once: ${how}.`,
    `See docker logs ${containerName(service)}.`,
  );
}

export function inDoubt(service: DockerService, doubt: string): ServiceError {
  return new ServiceError(
    'unavailable',
    `What became of ${service.name} is not known: ${doubt}`,
    `Look at it with: docker inspect ${containerName(service)}.`,
  );
}

/** Docker's texts have no codes. They are those of 20.10 to 29, with the words of runc and libnvidia-container in them. */
const TEXTS: readonly {
  says: RegExp;
  kind: ServiceErrorKind;
  remedy: (service: DockerService, found: RegExpMatchArray) => string;
}[] = [
  {
    says: /(?:listen \w+|Bind for|bind host port(?: for)?) \S*?:(\d+)(?=[:/ ]).*(?:in use|already allocated)/,
    kind: 'port-taken',
    remedy: (service, [, port]) =>
      `See who has it with: ss -ltnp 'sport = :${port}'. End that program, or change ${isCreated(service) ? keyOf(service, 'ports') : 'the port of the container'}.`,
  },
  {
    says: /CDI device|device driver "cdi"/,
    kind: 'missing',
    remedy: () =>
      'Let Docker use CDI ("features": {"cdi": true} in /etc/docker/daemon.json, then restart it), and write down the GPUs anew: sudo nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml.',
  },
  {
    says: /could not select device driver|libnvidia-container|nvidia-container-cli|nvidia-container-runtime/,
    kind: 'missing',
    remedy: () =>
      'Docker cannot hand out the GPU. Install the NVIDIA Container Toolkit (sudo nvidia-ctk runtime configure --runtime=docker, then restart Docker), and check that nvidia-smi lists the GPU.',
  },
  {
    says: /bind source path does not exist/,
    kind: 'missing',
    remedy: (service) => `Make the folder, or correct ${keyOf(service, 'mounts')}.`,
  },
  {
    says: /executable file not found|exec: .*no such file or directory/,
    kind: 'missing',
    remedy: (service) => `Correct ${keyOf(service, 'command')}: the image has no such program.`,
  },
  {
    says: /permission denied/,
    kind: 'not-permitted',
    remedy: () => 'Give the file the right to be executed, or name another program.',
  },
];

/** What Docker refused, as the caller sees it. Anything that is no answer of Docker's comes back as it is. */
export function refusal(service: DockerService, action: string, error: unknown): unknown {
  if (!(error instanceof DockerAnswer)) return error;
  const message = `Docker could not ${action} ${service.name}: ${error.message}`;
  for (const { says, kind, remedy } of TEXTS) {
    const found = error.message.match(says);
    if (found !== null) return new ServiceError(kind, message, remedy(service, found), { cause: error });
  }
  const remedy = `Try it by hand to see more: docker start ${containerName(service)}; docker logs ${containerName(service)}.`;
  return new ServiceError('failed', message, remedy, { cause: error });
}
