import { describe, expect, it } from 'vitest';
import { creationOf, gpusOf, isCurrent, isOurs, LABELS } from '../../../src/adapters/docker/creation.js';
import type { CreatedContainer } from '../../../src/adapters/docker/service.js';
import { DECLARED_GPU } from '../../../src/contracts/names.js';

const GPU = 'GPU-51717e00-0000-4000-8000-000000000001';

const TTS: CreatedContainer = {
  name: 'tts',
  image: 'example/tts:1',
  command: ['python', 'server.py', '--name', 'a b; rm -rf /'],
  env: { LANGUAGE: 'en' },
  ports: [
    { host: 50_000, container: 50_000 },
    { host: 50_001, container: 50_000, address: '0.0.0.0' },
  ],
  mounts: [{ source: '/models', target: '/srv/models', readOnly: true }],
};

describe('what is asked of Docker', () => {
  it('has the arguments as they are, its ports on loopback unless told, and no restart by Docker', () => {
    expect(creationOf(TTS, [GPU], 'me')).toEqual({
      name: 'vramflow-tts',
      Image: 'example/tts:1',
      Cmd: TTS.command,
      Env: ['LANGUAGE=en'],
      ExposedPorts: { '50000/tcp': {} },
      HostConfig: {
        PortBindings: {
          '50000/tcp': [
            { HostIp: '127.0.0.1', HostPort: '50000' },
            { HostIp: '0.0.0.0', HostPort: '50001' },
          ],
        },
        Mounts: [{ Type: 'bind', Source: '/models', Target: '/srv/models', ReadOnly: true }],
        DeviceRequests: [{ Driver: 'nvidia', DeviceIDs: [GPU], Capabilities: [['gpu']] }],
        RestartPolicy: { Name: 'no' },
      },
      Labels: {
        [LABELS.owner]: 'me',
        [LABELS.service]: 'tts',
        [LABELS.config]: expect.stringMatching(/^[0-9a-f]{16}$/),
      },
    });
  });

  it('asks for GPUs by CDI where told', () => {
    const { HostConfig } = creationOf({ ...TTS, gpuAccess: 'cdi' }, [GPU], 'me');
    expect(HostConfig?.DeviceRequests).toEqual([{ Driver: 'cdi', DeviceIDs: [`nvidia.com/gpu=${GPU}`] }]);
  });

  it('asks for all GPUs where the only one is declared, for it has no id that Docker knows', () => {
    const { Env, HostConfig } = creationOf(TTS, [DECLARED_GPU], 'me');
    expect(HostConfig?.DeviceRequests).toEqual([{ Driver: 'nvidia', Count: -1, Capabilities: [['gpu']] }]);
    expect(Env).toEqual(['LANGUAGE=en']);
    const byCdi = creationOf({ ...TTS, gpuAccess: 'cdi' }, [DECLARED_GPU], 'me');
    expect(byCdi.HostConfig?.DeviceRequests).toEqual([{ Driver: 'cdi', DeviceIDs: ['nvidia.com/gpu=all'] }]);
  });

  it('hides the GPUs from a service that gets none, unless its own environment says otherwise', () => {
    expect(creationOf(TTS, [], 'me')).toMatchObject({
      Env: ['NVIDIA_VISIBLE_DEVICES=void', 'LANGUAGE=en'],
      HostConfig: { DeviceRequests: [] },
    });
    const own = creationOf({ ...TTS, env: { NVIDIA_VISIBLE_DEVICES: 'none' } }, [], 'me');
    expect(own.Env).toEqual(['NVIDIA_VISIBLE_DEVICES=none']);
  });

  it('needs no more than an image', () => {
    const { Cmd, ExposedPorts, HostConfig } = creationOf({ name: 'tts', image: 'tts' }, [], 'me');
    expect([Cmd, ExposedPorts, HostConfig?.PortBindings, HostConfig?.Mounts]).toEqual([undefined, {}, {}, []]);
  });
});

describe('a container found', () => {
  const labels = creationOf(TTS, [GPU], 'me').Labels ?? {};

  it('is ours by owner and service, not by its name', () => {
    expect(isOurs(labels, TTS, 'me')).toBe(true);
    expect(isOurs(labels, TTS, 'other')).toBe(false);
    expect(isOurs(labels, { ...TTS, name: 'stt' }, 'me')).toBe(false);
    expect(isOurs({}, TTS, 'me')).toBe(false);
  });

  it.each<[string, Partial<CreatedContainer>, string[]]>([
    ['image', { image: 'example/tts:2' }, [GPU]],
    ['command', { command: ['python'] }, [GPU]],
    ['environment', { env: { LANGUAGE: 'de' } }, [GPU]],
    ['ports', { ports: [] }, [GPU]],
    ['mounts', { mounts: [] }, [GPU]],
    ['GPUs', {}, []],
    ['way to the GPUs', { gpuAccess: 'cdi' }, [GPU]],
  ])('is made anew for another %s', (_what, change, gpus) => {
    expect(isCurrent(labels, creationOf(TTS, [GPU], 'me'))).toBe(true);
    expect(isCurrent(labels, creationOf({ ...TTS, ...change }, gpus, 'me'))).toBe(false);
  });
});

describe('the GPUs of a container', () => {
  it('are known when it was given some by UUID', () => {
    expect(gpusOf([])).toEqual([]);
    expect(gpusOf([{ Driver: 'nvidia', DeviceIDs: [GPU] }])).toEqual([GPU]);
    expect(gpusOf([{ Driver: 'cdi', DeviceIDs: [`nvidia.com/gpu=${GPU}`] }])).toEqual([GPU]);
    expect(gpusOf([{ Driver: 'nvidia', Count: -1 }])).toBeNull();
    expect(gpusOf([{ Driver: 'nvidia', DeviceIDs: ['0'] }])).toBeNull();
  });
});
