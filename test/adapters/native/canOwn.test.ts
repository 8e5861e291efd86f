import { describe, expect, it } from 'vitest';

import { canOwnProcesses, judgeSurroundings, type Surroundings } from '../../../src/adapters/native/canOwn.js';

const HOST: Surroundings = {
  declared: null,
  pidNamespace: 'pid:[4026531836]',
  cgroupNamespace: 'cgroup:[4026531835]',
  cgroups: '0::/user.slice/user-1000.slice/session-2.scope\n',
  init: 'systemd',
};

const DOCKER: Surroundings = {
  declared: null,
  pidNamespace: 'pid:[4026532500]',
  cgroupNamespace: 'cgroup:[4026532501]',
  cgroups: '0::/\n',
  init: 'tini',
};

describe('where native services may be started (law 6)', () => {
  it.each<[string, Partial<Surroundings>]>([
    ['on a host', HOST],
    ['on an old kernel without cgroup namespaces', { ...HOST, cgroupNamespace: null }],
    ['in WSL or a system container, with an init of its own', { ...DOCKER, init: 'systemd' }],
    ['where a person says that it is no container', { ...DOCKER, declared: '0' }],
  ])('%s they may', (_where, surroundings) => {
    expect(judgeSurroundings({ ...HOST, ...surroundings })).toEqual({ ok: true });
  });

  it.each<[string, Partial<Surroundings>, string]>([
    ['in a container', DOCKER, 'process 1 is tini'],
    ["in one with the host's PID namespace", { ...DOCKER, pidNamespace: HOST.pidNamespace }, 'cgroups of its own'],
    ['in one with all namespaces of the host', { ...HOST, cgroups: '0::/system.slice/docker-ab.scope\n' }, 'docker'],
    ['in a pod', { ...DOCKER, cgroups: '3:cpu:/kubepods/besteffort/pod1/2\n' }, 'kubepods'],
    ['where a person says that it is a container', { ...HOST, declared: '1' }, 'VRAMFLOW_IN_CONTAINER'],
    ['without /proc', { ...HOST, pidNamespace: null }, 'no /proc'],
  ])('%s they may not, and the reason says why', (_where, surroundings, reason) => {
    const owning = judgeSurroundings({ ...HOST, ...surroundings });
    expect(owning).toMatchObject({ ok: false, reason: expect.stringContaining(reason) });
    expect(owning).toHaveProperty('remedy', expect.stringMatching(/\w/));
  });

  it('reads the surroundings of this process', () => {
    expect(canOwnProcesses({ VRAMFLOW_IN_CONTAINER: '1' })).toMatchObject({ ok: false });
    expect(canOwnProcesses({ VRAMFLOW_IN_CONTAINER: '0' })).toEqual({ ok: true });
    expect(canOwnProcesses({})).toHaveProperty('ok');
  });
});
