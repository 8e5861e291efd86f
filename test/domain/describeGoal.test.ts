import { describe, expect, it } from 'vitest';
import { nothingMoved } from '../../src/domain/describeGoal.js';

describe('an operation that moved nothing', () => {
  const former = { mode: 'idle', phase: '2' };

  it('says that the mode or the phase is another one now, where that is so', () => {
    expect(nothingMoved({ kind: 'mode', mode: 'autopilot' }, former)).toBe(
      'the mode is changed from idle, and nothing had to be moved',
    );
    expect(nothingMoved({ kind: 'phase', phase: '3' }, former)).toBe(
      'the phase is changed from 2, and nothing had to be moved',
    );
    expect(nothingMoved({ kind: 'phase', phase: '3' }, { ...former, phase: null })).toBe(
      'the phase is set, and nothing had to be moved',
    );
  });

  it('says else that it was true already', () => {
    expect(nothingMoved({ kind: 'mode', mode: 'idle' }, former)).toBe('it was true already');
    expect(nothingMoved({ kind: 'phase', phase: '2' }, former)).toBe('it was true already');
    expect(nothingMoved({ kind: 'embedder', device: 'cpu' }, former)).toBe('it was true already');
    expect(nothingMoved({ kind: 'mode', mode: 'idle' }, null)).toBe('it was true already');
  });
});
