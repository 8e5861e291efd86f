import { IMAGE, SERVICE_PORT, startRealDockerd } from '../parts/dockerd.js';
import { freePort } from '../parts/ports.js';
import { describeDockerContract } from './dockerContract.js';

describeDockerContract('real', async () => {
  const daemon = await startRealDockerd();
  if ('skip' in daemon) return daemon;
  const page = { port: await freePort(), path: '/health' };
  const make = async (name: string, ...kind: string[]): Promise<string> => {
    const bindings = { [`${SERVICE_PORT}/tcp`]: [{ HostIp: '127.0.0.1', HostPort: String(page.port) }] };
    await daemon.docker.createContainer({
      name,
      Image: IMAGE,
      Cmd: ['/service', ...kind],
      ExposedPorts: { [`${SERVICE_PORT}/tcp`]: {} },
      HostConfig: kind.length === 0 ? { PortBindings: bindings } : {},
    });
    return name;
  };
  return {
    ...daemon,
    page,
    containers: {
      service: await make('tts'),
      deaf: await make('deaf', 'deaf'),
      failing: await make('failing', 'failing'),
      stranger: await make('vramflow-taken', 'deaf'),
    },
    image: { name: IMAGE, command: ['/service'], containerPort: SERVICE_PORT },
    gpus: [],
  };
});
