// `node --import …/withoutClip.mjs`: a machine where the CLIP part was never installed, whatever this one has.
import fs from 'node:fs';
import { syncBuiltinESMExports } from 'node:module';

const { existsSync } = fs;
fs.existsSync = (path) => !String(path).includes('@huggingface/transformers') && existsSync(path);
syncBuiltinESMExports();
