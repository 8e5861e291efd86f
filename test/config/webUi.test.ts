import { describe, expect, it } from 'vitest';
import { whereTemporalIs } from '../../src/cli/bringUp.js';
import { webLink } from '../../src/config/webUi.js';
import { Sandbox } from './sandbox.js';

const linkWith = (env: NodeJS.ProcessEnv) => webLink(new Sandbox().load({ env }).config, 'mode/x/1', 'r');

describe('the page of a workflow', () => {
  it("is known of vramflow's own server, also to the workers, to which it is given", () => {
    const page = 'http://127.0.0.1:8233/namespaces/default/workflows/mode%2Fx%2F1/r/history';
    expect(linkWith({})).toBe(page);
    expect(linkWith(whereTemporalIs({ address: '127.0.0.1:7233', webUi: 'http://127.0.0.1:8233' }))).toBe(page);
  });

  it('is not known of a given server, unless the configuration says it', () => {
    expect(linkWith(whereTemporalIs({ address: 'temporal:7233', webUi: null }))).toBeNull();
    const env = { VRAMFLOW_TEMPORAL_ADDRESS: 'temporal:7233', VRAMFLOW_TEMPORAL_UI_URL: 'http://ui.lan:8080/' };
    expect(linkWith(env)).toMatch(/^http:\/\/ui\.lan:8080\/namespaces\/default/);
  });
});
