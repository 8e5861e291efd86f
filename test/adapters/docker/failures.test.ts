import { describe, expect, it } from 'vitest';
import { clientOptions } from '../../../src/adapters/docker/address.js';
import { DockerAnswer, refusal, unreachable } from '../../../src/adapters/docker/failures.js';
import { ServiceError } from '../../../src/adapters/services/driver.js';

const TTS = { name: 'tts', image: 'example/tts:1' };
const SOCKET = { socketPath: '/var/run/docker.sock' };

/** As dockerd says it, 20.10 unless noted. */
const SAID: [string, string, string][] = [
  [
    'driver failed programming external connectivity on endpoint a5 (b2fb50): Error starting userland proxy: listen tcp4 127.0.0.1:18083: bind: address already in use',
    'port-taken',
    'sport = :18083',
  ],
  [
    'driver failed programming external connectivity on endpoint a6 (db1913): Bind for 127.0.0.1:18082 failed: port is already allocated',
    'port-taken',
    'services.tts.ports',
  ],
  // 28
  [
    'failed to set up container networking: driver failed programming external connectivity on endpoint x (1f): failed to bind host port for 127.0.0.1:8080:172.17.0.2:80/tcp: address already in use',
    'port-taken',
    'sport = :8080',
  ],
  // 29
  ['failed to bind host port 127.0.0.1:5432/tcp: address already in use', 'port-taken', 'sport = :5432'],
  ['listen tcp6 [::1]:8188: bind: address already in use', 'port-taken', 'sport = :8188'],
  ['could not select device driver "cdi" with capabilities: []', 'missing', 'daemon.json'],
  ['could not select device driver "nvidia" with capabilities: [[gpu]]', 'missing', 'Container Toolkit'],
  [
    'failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: error running hook #0: nvidia-container-cli: device error: GPU-1: unknown device: unknown',
    'missing',
    'nvidia-smi lists the GPU',
  ],
  ['CDI device injection failed: unresolvable CDI devices nvidia.com/gpu=GPU-1', 'missing', 'nvidia-ctk cdi generate'],
  ['invalid mount config for type "bind": bind source path does not exist: /nothing', 'missing', 'services.tts.mounts'],
  [
    'failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: exec: "/bin/nothing": stat /bin/nothing: no such file or directory: unknown',
    'missing',
    'services.tts.command',
  ],
  ['OCI runtime create failed: exec: "/x": permission denied: unknown', 'not-permitted', 'right to be executed'],
  ['something new', 'failed', 'docker logs vramflow-tts'],
];

describe('what Docker refuses', () => {
  it.each(SAID)('%s', (message, kind, remedy) => {
    const error = refusal(TTS, 'start', new DockerAnswer(500, message)) as ServiceError;
    expect(error).toBeInstanceOf(ServiceError);
    expect([error.kind, error.message]).toEqual([kind, `Docker could not start tts: ${message}`]);
    expect(error.remedy).toContain(remedy);
  });

  it('is all that is put into words here', () => {
    const other = new Error('of another kind');
    expect(refusal(TTS, 'start', other)).toBe(other);
  });
});

describe('a daemon that does not answer', () => {
  it.each([
    ['EACCES', null, 'not-permitted', 'usermod -aG docker'],
    ['ENOENT', null, 'unavailable', 'systemctl start docker'],
    ['ECONNREFUSED', null, 'unavailable', 'systemctl start docker'],
    ['ECONNRESET', null, 'unavailable', 'systemctl start docker'],
    ['ABORT_ERR', 5_000, 'unavailable', 'systemctl restart docker'],
  ])('%s', (code, limitMs, kind, remedy) => {
    const error = unreachable(SOCKET, Object.assign(new Error('it broke'), { code }), limitMs);
    expect([error.kind, error.late]).toEqual([kind, limitMs !== null]);
    expect(error.message).toContain(SOCKET.socketPath);
    expect(error.remedy).toContain(remedy);
  });
});

describe('the address', () => {
  it('is on this machine', () => {
    for (const host of ['localhost', '127.0.0.1', '::1'])
      expect(() => clientOptions({ host, port: 2375 })).not.toThrow();
    for (const host of ['192.168.0.2', '127.evil.example', '0.0.0.0', 'example.org']) {
      expect(() => clientOptions({ host, port: 2375 })).toThrow(`${host}:2375 is not on this machine`);
    }
  });
});
