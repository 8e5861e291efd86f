import { expect, it } from 'vitest';
import { containerOf } from '../../src/roles/buildServices.js';
import { Sandbox } from '../config/sandbox.js';

it('hands on how Docker gives a container its GPU, where the configuration says it', () => {
  const { config } = new Sandbox()
    .project('services:\n  a: { image: a, vram_mb: 1, gpu_access: cdi }\n  b: { image: b, vram_mb: 1 }\n')
    .load();
  const [a, b] = Object.entries(config.services).map(containerOf);
  expect(a).toMatchObject({ image: 'a', gpuAccess: 'cdi' });
  expect(b).not.toHaveProperty('gpuAccess');
});
