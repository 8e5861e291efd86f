import type { ContainerInspectInfo, DeviceRequest } from 'dockerode';
import { describe, expect, it } from 'vitest';
import { givenTo } from '../../../src/adapters/docker/devices.js';

const given = (DeviceRequests: DeviceRequest[] | undefined, Env: string[] = []) =>
  givenTo({ HostConfig: { DeviceRequests }, Config: { Env } } as ContainerInspectInfo);

const UUID = 'GPU-51717e14-0000-4000-8000-000000000021';

describe('the GPUs that others gave a container', () => {
  it.each<[string, DeviceRequest[], string[] | 'all']>([
    ['--gpus all', [{ Driver: '', Count: -1, Capabilities: [['gpu']] }], 'all'],
    ['--gpus 2', [{ Driver: '', Count: 2, Capabilities: [['gpu']] }], ['0', '1']],
    [`--gpus '"device=1,${UUID}"'`, [{ Driver: '', Count: 0, DeviceIDs: ['1', UUID] }], ['1', UUID]],
    ['--device nvidia.com/gpu=1', [{ Driver: 'cdi', DeviceIDs: ['nvidia.com/gpu=1'] }], ['1']],
    [`CDI by UUID`, [{ Driver: 'cdi', DeviceIDs: [`nvidia.com/gpu=${UUID}`] }], [UUID]],
    ['--device nvidia.com/gpu=all', [{ Driver: 'cdi', DeviceIDs: ['nvidia.com/gpu=all'] }], 'all'],
    ['one of many and all', [{ DeviceIDs: ['1'] }, { Count: -1 }], 'all'],
    ['a part of one', [{ DeviceIDs: ['MIG-1b2c'] }], 'all'],
  ])('%s', (_how, requests, said) => {
    expect(given(requests)).toEqual(said);
  });

  it.each<[string, string[], string[] | 'all']>([
    ['one by index', ['NVIDIA_VISIBLE_DEVICES=1'], ['1']],
    ['two', [`NVIDIA_VISIBLE_DEVICES=all`, `NVIDIA_VISIBLE_DEVICES=0, ${UUID}`], ['0', UUID]],
    ['all', ['NVIDIA_VISIBLE_DEVICES=all'], 'all'],
    ['nothing that says it', ['PATH=/bin'], 'all'],
  ])("by the variable of NVIDIA's runtime: %s", (_how, env, said) => {
    expect(given(undefined, env)).toEqual(said);
    expect(given([], env)).toEqual(said);
  });
});
