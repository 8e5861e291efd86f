import { defineConfig } from 'vitest/config';

/** `npm run test:gpu`: what only a machine with a real GPU can show. */
export default defineConfig({
  test: {
    include: ['test/gpu/**/*.test.ts'],
    globalSetup: 'test/parts/temporalBinary.ts',
    // There is one card, and each test counts its memory.
    maxWorkers: 1,
    fileParallelism: false,
    testTimeout: 120_000,
    hookTimeout: 300_000,
  },
});
