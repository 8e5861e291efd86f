import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { onTestFinished } from 'vitest';
import { type Loaded, type LoadInput, loadConfig } from '../../src/config/load.js';
import { ConfigError, type Problem } from '../../src/config/problem.js';

/** A home and a project folder of a test's own. */
export class Sandbox {
  readonly root = mkdtempSync(join(tmpdir(), 'vramflow-config-'));
  readonly home = join(this.root, 'home');
  readonly cwd = join(this.root, 'project');
  readonly projectFile = join(this.cwd, 'vramflow.yaml');
  readonly userFile = join(this.home, '.config', 'vramflow', 'config.yaml');

  constructor() {
    mkdirSync(this.cwd, { recursive: true });
    onTestFinished(() => rmSync(this.root, { recursive: true }));
  }

  write(file: string, text: string): this {
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, text);
    return this;
  }

  project = (text: string): this => this.write(this.projectFile, text);
  user = (text: string): this => this.write(this.userFile, text);

  load(input: { config?: string; overrides?: Record<string, string>; env?: NodeJS.ProcessEnv } = {}): Loaded {
    const argv: LoadInput['argv'] = { config: input.config, overrides: input.overrides ?? {} };
    return loadConfig({ argv, env: input.env ?? {}, cwd: this.cwd, homeDir: this.home });
  }

  /** The problems of a load that must fail. */
  problems(input: Parameters<Sandbox['load']>[0] = {}): Problem[] {
    try {
      this.load(input);
    } catch (error) {
      if (error instanceof ConfigError) return [...error.problems];
      throw error;
    }
    throw new Error('The configuration was accepted.');
  }
}
