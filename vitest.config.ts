import { defineConfig } from 'vitest/config';
import { FileOrder } from './test/parts/fileOrder.js';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    // `npm run test:gpu` runs those.
    exclude: ['test/gpu/**', '**/node_modules/**'],
    globalSetup: 'test/parts/temporalBinary.ts',
    // Two cores: more workers only make the real-time deadlines of the requirements wait for each other.
    maxWorkers: 2,
    sequence: { sequencer: FileOrder },
    testTimeout: 60_000,
    hookTimeout: 120_000,
  },
});
