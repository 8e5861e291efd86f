import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { z } from 'zod';
import { jsonSchemaText } from '../../src/config/jsonSchema.js';
import { checkFile } from '../../src/config/load.js';

const SHIPPED = 'vramflow.schema.json';
const shipped = readFileSync(SHIPPED, 'utf8');
const examples = readdirSync('examples').filter((name) => name.endsWith('.yaml'));

describe('the JSON Schema for editors', () => {
  it('is up to date: `vramflow config schema > vramflow.schema.json`', () => {
    expect(shipped).toBe(jsonSchemaText());
  });

  it('describes every key', () => {
    const { properties } = JSON.parse(shipped) as { properties: Record<string, { description?: string }> };
    const silent = Object.keys(properties).filter((key) => !properties[key]?.description);
    expect(silent).toEqual([]);
  });

  describe.each(examples)('and examples/%s', (name) => {
    const path = `examples/${name}`;
    const text = readFileSync(path, 'utf8');
    const schema = z.fromJSONSchema(JSON.parse(shipped) as Parameters<typeof z.fromJSONSchema>[0]);

    it('agree, as an editor sees it', () => {
      expect(schema.safeParse(parse(text)).error?.issues).toBeUndefined();
      expect(schema.safeParse({ ...(parse(text) as object), idle_timout_seconds: 3 }).success).toBe(false);
      expect(schema.safeParse({ ...(parse(text) as object), vram_poll_ms: 'often' }).success).toBe(false);
    });

    it('agree, as vramflow sees it', () => {
      expect(checkFile(path, '/home/nobody').config.log_level).toBe('info');
    });

    it('name each other', () => {
      expect(text.split('\n')[0]).toBe('# yaml-language-server: $schema=../vramflow.schema.json');
    });
  });
});
