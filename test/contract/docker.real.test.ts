import { IMAGE, SERVICE_PORT, startRealDockerd } from '../parts/dockerd.js';
import { freePort } from '../parts/ports.js';
import { describeDockerContract } from './dockerContract.js';

const SECOND_NS = 1e9;

describeDockerContract('real', async () => {
  const daemon = await startRealDockerd();
  if ('skip' in daemon) return daemon;
  const page = { port: await freePort(), path: '/health' };
  const make = async (name: string, kind: string[] = [], more: object = {}): Promise<string> => {
    const bindings = { [`${SERVICE_PORT}/tcp`]: [{ HostIp: '127.0.0.1', HostPort: String(page.port) }] };
    await daemon.docker.createContainer({
      name,
      Image: IMAGE,
      Cmd: ['/service', ...kind],
      ExposedPorts: { [`${SERVICE_PORT}/tcp`]: {} },
      HostConfig: kind.length === 0 ? { PortBindings: bindings } : {},
      ...more,
    });
    return name;
  };
  return {
    ...daemon,
    page,
    async setHealth(passes) {
      const Cmd = ['/bin/sh', '-c', passes ? ': > /unwell' : 'echo 1 > /unwell'];
      const exec = await daemon.docker.getContainer('checked').exec({ Cmd });
      await exec.start({});
    },
    containers: {
      service: await make('tts'),
      deaf: await make('deaf', ['deaf']),
      failing: await make('failing', ['failing']),
      checked: await make('checked', ['deaf'], {
        Healthcheck: {
          Test: ['CMD-SHELL', '[ ! -s /unwell ]'],
          Interval: SECOND_NS,
          Timeout: 5 * SECOND_NS,
          Retries: 1,
        },
      }),
      stranger: await make('vramflow-taken', ['deaf']),
    },
    image: { name: IMAGE, command: ['/service'], containerPort: SERVICE_PORT },
    gpus: [],
  };
});
