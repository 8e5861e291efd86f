#!/usr/bin/env node
import { existsSync } from 'node:fs';

const main = new URL('../dist/client.js', import.meta.url);
if (existsSync(main)) await import(main.href);
else {
  process.stderr.write(
    'error: vramflow is not built here yet.\n  `npm start` installs and builds it, `npm run build` only builds.\n',
  );
  process.exitCode = 1;
}
