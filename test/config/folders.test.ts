import { describe, expect, it } from 'vitest';
import { foldersOf, userConfigFile } from '../../src/config/folders.js';

const homeDir = '/home/ada';

describe('foldersOf', () => {
  it('follows the XDG defaults', () => {
    expect(foldersOf(undefined, { env: {}, homeDir })).toEqual({
      data: '/home/ada/.local/share/vramflow',
      state: '/home/ada/.local/state/vramflow',
      cache: '/home/ada/.cache/vramflow',
      runtime: '/home/ada/.local/state/vramflow/run',
    });
  });

  it('follows the XDG variables, but not relative ones', () => {
    const env = {
      XDG_DATA_HOME: '/d',
      XDG_STATE_HOME: 'relative',
      XDG_CACHE_HOME: '/c',
      XDG_RUNTIME_DIR: '/run/user/1',
    };
    expect(foldersOf(undefined, { env, homeDir })).toEqual({
      data: '/d/vramflow',
      state: '/home/ada/.local/state/vramflow',
      cache: '/c/vramflow',
      runtime: '/run/user/1/vramflow',
    });
  });

  it('keeps all but the cache in a data folder of its own', () => {
    const env = { XDG_RUNTIME_DIR: '/run/user/1', XDG_DATA_HOME: '/d' };
    expect(foldersOf('/mine', { env, homeDir })).toEqual({
      data: '/mine',
      state: '/mine/state',
      cache: '/home/ada/.cache/vramflow',
      runtime: '/mine/run',
    });
  });
});

describe('userConfigFile', () => {
  it('is config.yaml in the configuration folder', () => {
    expect(userConfigFile({ env: {}, homeDir })).toBe('/home/ada/.config/vramflow/config.yaml');
    expect(userConfigFile({ env: { XDG_CONFIG_HOME: '/x' }, homeDir })).toBe('/x/vramflow/config.yaml');
  });
});
