import { createHash, randomBytes } from 'node:crypto';
import {
  type ContainerDependencies,
  type ContainerNotice,
  type ContainerState,
  SimulatedContainer,
} from './container.js';
import type { ContainerConfig } from './containerConfig.js';
import { DockerError } from './errors.js';
import type { GpuProcess } from './gpuHost.js';
import type { ServiceContainer } from './servicesFile.js';

/** As Docker tells it. */
export interface DockerEvent {
  readonly Type: 'container';
  readonly Action: string;
  readonly Actor: { readonly ID: string; readonly Attributes: Readonly<Record<string, string>> };
  readonly time: number;
}

/** The containers of the simulated daemon. Whatever is made of an image behaves as the one of the file that has it. */
export class Containers {
  readonly #dependencies: ContainerDependencies;
  readonly #programs: readonly ServiceContainer[];
  readonly #all = new Map<string, SimulatedContainer>();
  readonly #eventWatchers = new Set<(event: DockerEvent) => void>();
  readonly #changed: () => void;
  readonly #inside: () => readonly number[];

  /** `changed` is called after each change that a restart must know of; `inside` are the processes of what a container serves. */
  constructor(
    dependencies: ContainerDependencies,
    programs: readonly ServiceContainer[],
    changed: () => void,
    inside: () => readonly number[] = () => [],
  ) {
    this.#inside = inside;
    this.#dependencies = dependencies;
    this.#programs = programs;
    this.#changed = changed;
    dependencies.faults.onChange(() => {
      for (const container of this.all) container.crashIfAsked();
    });
    for (const program of programs) {
      const config = { Image: program.image, Cmd: [], Env: [], Labels: {}, HostConfig: {} };
      this.#add(this.#stateOf(program.name, config), program);
    }
  }

  get all(): readonly SimulatedContainer[] {
    return [...this.#all.values()];
  }

  /** By name, id or the beginning of an id. @throws {DockerError} 404 */
  find(nameOrId: string): SimulatedContainer {
    const found =
      this.all.find(({ state }) => state.name === nameOrId) ??
      this.all.find(({ state }) => state.id.startsWith(nameOrId));
    if (found === undefined) throw new DockerError(404, `No such container: ${nameOrId}`);
    return found;
  }

  /** @throws {DockerError} 404 for an image that no container of the file has, 409 for a name that is taken. */
  create(name: string, config: ContainerConfig): SimulatedContainer {
    const program = this.#programs.find(({ image }) => image === config.Image);
    if (program === undefined) throw new DockerError(404, `No such image: ${config.Image}`);
    const taken = this.all.find(({ state }) => state.name === name);
    if (taken !== undefined) {
      const by = `The container name "/${name}" is already in use by container "${taken.state.id}"`;
      throw new DockerError(409, `Conflict. ${by}.`);
    }
    return this.#add(this.#stateOf(name, config), { ...program, name });
  }

  /** @throws {DockerError} 409 for one that runs, unless forced */
  async remove(container: SimulatedContainer, force: boolean): Promise<void> {
    const { id } = container.state;
    if (container.isRunning && !force) {
      throw new DockerError(409, `You cannot remove a running container ${id}. Stop the container before`);
    }
    if (container.isRunning) container.kill();
    await container.ended();
    this.#all.delete(id);
    this.#tell(container, 'destroy');
  }

  /** Empty for one that does not run. */
  pidsOf({ state: { pid, config } }: SimulatedContainer): readonly number[] {
    if (pid === null) return [];
    return this.serves(config.Image) ? [pid, ...this.#inside()] : [pid];
  }

  /** Something else runs in what is made of this image. */
  serves(image: string): boolean {
    return this.#programs.some((program) => program.image === image && program.serves !== null);
  }

  /** @throws {DockerError} 404 */
  imageId(name: string): string {
    if (this.#programs.every(({ image }) => image !== name)) {
      throw new DockerError(404, `no such image: ${name}: No such image: ${name}`);
    }
    return imageIdOf(name);
  }

  /** Calls `watcher` with each event until the returned function is called. */
  watch(watcher: (event: DockerEvent) => void): () => void {
    this.#eventWatchers.add(watcher);
    return () => this.#eventWatchers.delete(watcher);
  }

  snapshot(): ContainerState[] {
    return this.all.map(({ state }) => state);
  }

  /** Takes up the containers of an earlier run; what is no longer in the file is gone. */
  async restore(states: readonly ContainerState[], processes: readonly GpuProcess[]): Promise<void> {
    for (const state of states) {
      const program = this.#programs.find(({ image }) => image === state.config.Image);
      if (program === undefined) continue;
      const same = this.all.find((one) => one.state.name === state.name);
      if (same !== undefined) this.#all.delete(same.state.id);
      const container = this.#add(state, { ...program, name: state.name });
      const process = processes.find(({ pid, ended }) => pid === state.pid && !ended);
      if (state.pid !== null) await container.resume(process);
    }
    const held = new Set(this.all.map(({ state }) => state.pid));
    for (const process of processes) {
      if (process.kind === 'container' && !held.has(process.pid)) void this.#dependencies.gpuHost.end(process);
    }
  }

  async close(): Promise<void> {
    await Promise.all(this.all.map((container) => container.close()));
  }

  #add(state: ContainerState, program: ServiceContainer): SimulatedContainer {
    const container = new SimulatedContainer(state, program, this.#dependencies, (notice, attributes) =>
      this.#tell(container, notice, attributes),
    );
    this.#all.set(state.id, container);
    this.#changed();
    return container;
  }

  #stateOf(name: string, config: ContainerConfig): ContainerState {
    const { clock } = this.#dependencies;
    const created = clock.dateOf(clock.now()).toISOString();
    const never = { startedAt: null, finishedAt: null, exitCode: 0, error: '', pid: null, isUp: false };
    return { id: randomBytes(32).toString('hex'), name, config, created, ...never };
  }

  #tell(container: SimulatedContainer, action: ContainerNotice | 'destroy', attributes = {}): void {
    const { id, name, config } = container.state;
    const Attributes = { ...config.Labels, image: config.Image, name, ...attributes };
    const event = {
      Type: 'container',
      Action: action,
      Actor: { ID: id, Attributes },
      time: Date.now() / 1000,
    } as const;
    if (action !== 'up') for (const watcher of this.#eventWatchers) watcher(event);
    this.#changed();
  }
}

export function imageIdOf(name: string): string {
  return `sha256:${createHash('sha256').update(name).digest('hex')}`;
}
