/**
 * Whether native services may be started from here (law 6: they outlive their manager). A container takes all that was
 * started in it down when it ends, also one that has the host's PID namespace: its runtime kills its whole cgroup.
 */
import { readFileSync, readlinkSync } from 'node:fs';

/** The numbers of the first namespaces, fixed in the kernel's source (include/linux/proc_ns.h). */
const FIRST_PID_NAMESPACE = 'pid:[4026531836]';
const FIRST_CGROUP_NAMESPACE = 'cgroup:[4026531835]';

/** What container runtimes call the cgroups of their containers. */
const CONTAINER_CGROUP = /docker|containerd|libpod|kubepods|crio|buildkit|garden/;

/** Names of a process 1 that looks after a whole system; a container's is the program itself, or a small reaper. */
const SYSTEM_INIT = new Set(['systemd', 'init', 'openrc-init', 'runit', 'dinit']);

export type Owning = { ok: true } | { ok: false; reason: string; remedy: string };

/** Each is null where it cannot be read. */
export interface Surroundings {
  /** VRAMFLOW_IN_CONTAINER: what a person says outweighs what we see. */
  declared: string | null;
  pidNamespace: string | null;
  cgroupNamespace: string | null;
  /** /proc/self/cgroup. */
  cgroups: string | null;
  /** The name of process 1. */
  init: string | null;
}

export const canOwnProcesses = (env: NodeJS.ProcessEnv = process.env): Owning =>
  judgeSurroundings(readSurroundings(env));

/** Pure. */
export function judgeSurroundings(found: Surroundings): Owning {
  const { declared, pidNamespace, cgroupNamespace, init } = found;
  if (pidNamespace === null) {
    return {
      ok: false,
      reason: 'This system has no /proc, so no process could be proven to be ours.',
      remedy: 'Run native services on Linux, or run the service in Docker.',
    };
  }
  if (declared !== null && /^(0|false|no)$/i.test(declared)) return { ok: true };
  if (declared !== null && declared !== '') return inContainer('VRAMFLOW_IN_CONTAINER is set');
  const cgroup = CONTAINER_CGROUP.exec(found.cgroups ?? '')?.[0];
  if (cgroup !== undefined) return inContainer(`its cgroup is one of ${cgroup}`);
  if (pidNamespace === FIRST_PID_NAMESPACE) {
    if (cgroupNamespace === null || cgroupNamespace === FIRST_CGROUP_NAMESPACE) return { ok: true };
    return inContainer("it has the host's PID namespace, but cgroups of its own");
  }
  // WSL and system containers have a PID namespace of their own, too, and yet live as long as a machine does.
  if (init !== null && SYSTEM_INIT.has(init)) return { ok: true };
  return inContainer(`it has a PID namespace of its own, whose process 1 is ${init ?? 'not readable'}`);
}

function readSurroundings(env: NodeJS.ProcessEnv): Surroundings {
  return {
    declared: env['VRAMFLOW_IN_CONTAINER'] ?? null,
    pidNamespace: readOrNull(() => readlinkSync('/proc/self/ns/pid')),
    cgroupNamespace: readOrNull(() => readlinkSync('/proc/self/ns/cgroup')),
    cgroups: readOrNull(() => readFileSync('/proc/self/cgroup', 'utf8')),
    init: readOrNull(() => readFileSync('/proc/1/comm', 'utf8').trim()),
  };
}

function readOrNull(read: () => string): string | null {
  try {
    return read();
  } catch {
    // Not there, or not ours to read: the absence is the answer.
    return null;
  }
}

function inContainer(why: string): Owning {
  return {
    ok: false,
    reason: `The agent runs in a container (${why}): native services would end with it.`,
    remedy:
      'Run the agent outside of containers, or run the service in Docker. If what the agent starts does outlive it, set VRAMFLOW_IN_CONTAINER=0.',
  };
}
