import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Writable } from 'node:stream';
import { Command } from 'commander';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { configCommand } from '../../src/cli/commands/config.js';
import { Exit } from '../../src/cli/exit.js';
import { EXIT } from '../../src/cli/exitCodes.js';
import { addGlobalOptions } from '../../src/cli/globalOptions.js';
import { explain, UserError } from '../../src/cli/userError.js';
import { Sandbox } from '../config/sandbox.js';

class Captured extends Writable {
  text = '';
  override _write(chunk: Buffer, _encoding: string, done: () => void) {
    this.text += chunk.toString();
    done();
  }
}

/** Runs `vramflow config …` in process; `error` is what the program would print and exit with. */
async function run(sandbox: Sandbox, args: string[], env: NodeJS.ProcessEnv = {}) {
  const stdout = new Captured();
  const stderr = new Captured();
  const context = { env: { HOME: sandbox.home, ...env }, cwd: sandbox.cwd, stdout, stderr };
  const program = addGlobalOptions(new Command('vramflow')).addCommand(configCommand(context));
  const error = await program.parseAsync(['config', ...args], { from: 'user' }).then(
    () => null,
    (thrown: unknown) => explain(thrown),
  );
  if (error !== null && !(error instanceof UserError || error instanceof Exit)) {
    throw new Error('not a user error', { cause: error });
  }
  return { stdout: stdout.text, stderr: stderr.text, error };
}

describe('vramflow config validate', () => {
  it('is quiet about a good file, and names it', async () => {
    const sandbox = new Sandbox().project('log_level: debug\n');
    expect(await run(sandbox, ['validate'])).toEqual({ stdout: 'valid: vramflow.yaml\n', stderr: '', error: null });
  });

  it('says so when there is no file', async () => {
    expect((await run(new Sandbox(), ['validate'])).stdout).toBe('valid: defaults only\n');
  });

  it('prints file:line:column, key, message and remedy of each problem, and exits with 2', async () => {
    const sandbox = new Sandbox().project('idle_timout_seconds: 3\ngpu:\n  reader: nvml\n');
    const { stdout, error } = await run(sandbox, ['validate']);
    expect(stdout).toBe(
      [
        'vramflow.yaml:1:1 idle_timout_seconds: is not a known key.',
        '  Did you mean idle_timeout_seconds?',
        'vramflow.yaml:3:3 gpu.reader: must be one of auto, nvidia-smi, none, but is the text "nvml".',
        '  Change it, or leave it out for the default, "auto".',
        '',
      ].join('\n'),
    );
    expect(error?.exitCode).toBe(EXIT.usage);
    expect((error as UserError).lines()).toEqual(['error: the configuration has 2 problems.']);
  });

  it('with -o json prints one document', async () => {
    const sandbox = new Sandbox().project('zebra: 3\n');
    const { stdout, error } = await run(sandbox, ['validate', '-o', 'json']);
    expect(JSON.parse(stdout)).toEqual({
      valid: false,
      problems: [
        {
          file: sandbox.projectFile,
          line: 1,
          column: 1,
          key: 'zebra',
          source: 'project',
          message: 'is not a known key.',
          remedy: expect.stringContaining('known here: host,') as unknown,
        },
      ],
    });
    expect(error?.exitCode).toBe(2);
  });

  it('warns of a variable that nothing reads', async () => {
    const env = { VRAMFLOW_RESERVE: '5' };
    const { stdout, error } = await run(new Sandbox(), ['validate'], env);
    expect(error).toBeNull();
    expect(stdout).toBe(
      'warning: environment VRAMFLOW_RESERVE: is not a variable that vramflow knows.\n  Did you mean VRAMFLOW_RESERVE_MB?\nvalid: defaults only\n',
    );
    const { stdout: json } = await run(new Sandbox(), ['validate', '-o', 'json'], env);
    expect(JSON.parse(json)).toMatchObject({
      valid: true,
      warnings: [{ remedy: 'Did you mean VRAMFLOW_RESERVE_MB?' }],
    });
  });

  it('with a file looks at that file only', async () => {
    const sandbox = new Sandbox().project('zebra: 1\n').user('zebra: 2\n');
    sandbox.write(join(sandbox.cwd, 'other.yaml'), 'log_level: warn\n');
    const { stdout, error } = await run(sandbox, ['validate', 'other.yaml'], { VRAMFLOW_RESERVE_MB: 'lots' });
    expect({ stdout, error }).toEqual({ stdout: 'valid: other.yaml\n', error: null });
  });
});

describe('vramflow config show', () => {
  it('prints YAML that is a configuration itself', async () => {
    const sandbox = new Sandbox().project('vlm_model: llava\nmodels: { llava: { vram_mb: 9 } }\n');
    const { stdout } = await run(sandbox, ['show']);
    sandbox.project(stdout);
    expect((await run(sandbox, ['show'])).stdout).toBe(stdout);
    expect(parse(stdout)).toMatchObject({ vlm_model: 'llava:latest' });
  });

  it('--origin says where each value comes from', async () => {
    const sandbox = new Sandbox().user('reserve_mb: 5\n').project('models:\n  qwen2.5:7b:\n    vram_mb: 6000\n');
    const env = { VRAMFLOW_LOG_LEVEL: 'warn' };
    const { stdout } = await run(sandbox, ['show', '--origin', '--set', 'gpu.reader=none'], env);
    const lines = stdout.split('\n').map((line) => line.split(/ {2,}/));
    expect(lines[0]).toEqual(['KEY', 'VALUE', 'ORIGIN']);
    expect(lines).toContainEqual(['reserve_mb', '5', `${sandbox.userFile}:1:1`]);
    expect(lines).toContainEqual(['models."qwen2.5:7b".vram_mb', '6000', 'vramflow.yaml:3:5']);
    expect(lines).toContainEqual(['log_level', 'warn', 'environment VRAMFLOW_LOG_LEVEL']);
    expect(lines).toContainEqual(['gpu.reader', 'none', 'flag']);
    expect(lines).toContainEqual(['gpu.nvidia_smi', '["nvidia-smi"]', 'default']);
    expect(lines).toContainEqual(['modes.recording.clip', 'cpu', 'default']);
  });

  it('--origin -o json gives value and origin by key', async () => {
    const { stdout } = await run(new Sandbox().project('reserve_mb: 5\n'), ['show', '--origin', '-o', 'json']);
    expect(JSON.parse(stdout)).toMatchObject({
      reserve_mb: { value: 5, from: 'project', line: 1, column: 1 },
      max_load_retries: { value: 3, from: 'default' },
    });
  });

  it('of a broken configuration is an error with every problem', async () => {
    const { stdout, error } = await run(new Sandbox().project('a: 1\nb: 2\n'), ['show']);
    expect(stdout).toBe('');
    expect(error?.exitCode).toBe(EXIT.usage);
    expect(error?.message.split('\n')).toHaveLength(3);
    expect((error as UserError).remedy).toContain('vramflow config validate');
  });
});

describe('vramflow config schema', () => {
  it('prints the file that is shipped', async () => {
    const { stdout } = await run(new Sandbox(), ['schema']);
    expect(stdout).toBe(readFileSync('vramflow.schema.json', 'utf8'));
  });
});

describe('vramflow config path', () => {
  it('names the files, the strongest first, even when they are broken', async () => {
    const sandbox = new Sandbox().project('a: [\n');
    const { stdout } = await run(sandbox, ['path', '-o', 'json']);
    expect(JSON.parse(stdout)).toEqual([
      { role: 'project', path: sandbox.projectFile, exists: true },
      { role: 'user', path: sandbox.userFile, exists: false },
    ]);
  });
});
