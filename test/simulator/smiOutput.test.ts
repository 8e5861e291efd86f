import { describe, expect, it } from 'vitest';
import type { GpuSample } from '../../src/simulator/sample.js';
import { parseSmiArguments, SmiUsageError } from '../../src/simulator/smiArguments.js';
import { smiStep } from '../../src/simulator/smiOutput.js';

const GPU = 'GPU-51717e00-0000-4000-8000-000000000001';
const FORMAT = '--format=csv,noheader,nounits';
const MEMORY = parseSmiArguments(['--query-gpu=uuid,memory.used,utilization.gpu,temperature.gpu', FORMAT]);
const APPS = parseSmiArguments(['--query-compute-apps=gpu_uuid,pid,process_name,used_gpu_memory', FORMAT]);

function sampleWith(faults: GpuSample['faults'] = {}): GpuSample {
  const card = {
    index: 0,
    uuid: GPU,
    name: 'NVIDIA GeForce RTX 4090',
    totalMb: 24_564,
    reservedMb: 346,
    usedMb: 557,
    freeMb: 23_661,
    utilizationPercent: 3,
    temperatureC: 41,
    powerW: 27,
    fanPercent: 0,
    computeCapability: '8.9',
  };
  const processes = [{ gpu: GPU, pid: 4_195_400, name: '/usr/bin/ollama', mb: 10_500 }];
  return { driverVersion: '570.124.06', cards: [card], processes, faults };
}

describe('nvidia-smi', () => {
  it('prints the fields asked for', () => {
    expect(smiStep(sampleWith(), MEMORY, 0)).toEqual({ kind: 'print', pieces: [`${GPU}, 557, 3, 41\n`] });
    expect(smiStep(sampleWith(), APPS, 0)).toEqual({
      kind: 'print',
      pieces: [`${GPU}, 4195400, /usr/bin/ollama, 10500\n`],
    });
  });

  it('prints nothing at all while no process runs', () => {
    expect(smiStep({ ...sampleWith(), processes: [] }, APPS, 0)).toEqual({ kind: 'print', pieces: [''] });
  });

  it('prints header and units unless told otherwise, the header once', () => {
    const request = parseSmiArguments(['--query-gpu=memory.used', '--format=csv', '-lms', '100']);
    expect(request.everyMs).toBe(100);
    expect(smiStep(sampleWith(), request, 0)).toMatchObject({ pieces: ['memory.used [MiB]\n557 MiB\n'] });
    expect(smiStep(sampleWith(), request, 1)).toMatchObject({ pieces: ['557 MiB\n'] });
  });

  it('refuses an unknown field and an unknown GPU as the real one does', () => {
    const field = parseSmiArguments(['--query-gpu=nope', FORMAT]);
    expect(smiStep(sampleWith(), field, 0)).toMatchObject({
      code: 2,
      stdout: 'Field "nope" is not a valid field to query.\n\n',
    });
    const gpu = parseSmiArguments(['--query-gpu=uuid', FORMAT, '-i', 'GPU-other']);
    expect(smiStep(sampleWith(), gpu, 0)).toMatchObject({ code: 6, stdout: 'No devices were found\n' });
    expect(() => parseSmiArguments(['--nonsense'])).toThrow(SmiUsageError);
  });

  it.each([
    ['smi-na', `${GPU}, [N/A], [N/A], 41\n`],
    ['smi-err', `${GPU}, ERR!, ERR!, 41\n`],
    ['smi-no-permission', `${GPU}, [Insufficient Permissions], 3, 41\n`],
    ['smi-mig', `${GPU}, [Insufficient Permissions], [N/A], 41\n`],
  ])('%s stands in place of figures, on the card it is set for', (fault, line) => {
    expect(smiStep(sampleWith({ [fault]: {} }), MEMORY, 0)).toMatchObject({ pieces: [line] });
    expect(smiStep(sampleWith({ [fault]: { gpu: 'GPU-other' } }), MEMORY, 0)).toMatchObject({
      pieces: [`${GPU}, 557, 3, 41\n`],
    });
  });

  it('loses a GPU: a new start ends with 15, a running loop prints it in the fields', () => {
    const lost = sampleWith({ 'smi-gpu-lost': {} });
    expect(smiStep(lost, MEMORY, 0)).toEqual({
      kind: 'exit',
      code: 15,
      stdout:
        'Unable to determine the device handle for GPU 0000:01:00.0: GPU is lost. Reboot the system to recover this GPU\n',
      stderr: '',
    });
    expect(smiStep(lost, MEMORY, 1)).toMatchObject({
      pieces: [`${GPU}, [GPU is lost], [GPU is lost], [GPU is lost]\n`],
    });
  });

  it('ends on a driver mismatch, hangs, or is missing', () => {
    expect(smiStep(sampleWith({ 'smi-driver-mismatch': {} }), MEMORY, 3)).toMatchObject({
      code: 18,
      stdout: 'Failed to initialize NVML: Driver/library version mismatch\nNVML library version: 570.124\n',
    });
    expect(smiStep(sampleWith({ 'smi-hang': {} }), MEMORY, 0)).toEqual({ kind: 'hang' });
    expect(smiStep(sampleWith({ 'smi-missing': {} }), MEMORY, 0)).toMatchObject({ code: 127, stdout: '' });
  });

  it('cuts lines in three ways', () => {
    const cut = sampleWith({ 'smi-cut-lines': {} });
    const whole = `${GPU}, 557, 3, 41\n`;
    const [ended, inPieces, open] = [0, 1, 2].map((turn) => smiStep(cut, MEMORY, turn));
    expect(ended).toMatchObject({ pieces: [`${whole.slice(0, 32)}\n`] });
    expect(inPieces).toMatchObject({ pieces: [whole.slice(0, 32), whole.slice(32)] });
    expect(open).toMatchObject({ pieces: [whole.slice(0, 32)] });
  });
});
