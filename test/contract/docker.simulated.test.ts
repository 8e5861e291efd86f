import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { startSimulator } from '../../src/simulator/simulator.js';
import { freePort } from '../parts/ports.js';
import { describeDockerContract } from './dockerContract.js';

describeDockerContract('simulated', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'vramflow-docker-'));
  const page = { port: await freePort(), path: '/health' };
  const image = 'tts:1';
  const like = { image, vramMb: 4000, bootMs: 3000, stopMs: 500, health: null };
  const containers = [
    { ...like, name: 'tts', health: page },
    { ...like, name: 'deaf' },
    // More than the card has.
    { ...like, name: 'failing', vramMb: 40_000, bootMs: 25_000 },
    { ...like, name: 'checked', vramMb: 100, healthcheckMs: 2_000 },
    { ...like, name: 'vramflow-taken' },
  ];
  await writeFile(join(folder, 'services.json'), JSON.stringify({ containers }));
  const simulator = await startSimulator({
    preset: 'rtx4090',
    speed: 10,
    servicesFile: join(folder, 'services.json'),
  });
  simulator.faults.set('container-deaf', { container: 'deaf' });
  return {
    socketPath: simulator.info.docker,
    page,
    containers: { service: 'tts', deaf: 'deaf', failing: 'failing', checked: 'checked', stranger: 'vramflow-taken' },
    image: { name: image, command: ['python3', 'server.py'], containerPort: page.port },
    gpus: [simulator.gpuHost.card(0).spec.uuid],
    async setHealth(passes) {
      if (passes) simulator.faults.clear('container-unhealthy');
      else simulator.faults.set('container-unhealthy', { container: 'checked' });
    },
    leave: async () => simulator.faults.set('docker-unavailable'),
    comeBack: async () => simulator.faults.clear('docker-unavailable'),
    async stop() {
      await simulator.stop();
      await rm(folder, { recursive: true });
    },
  };
});
