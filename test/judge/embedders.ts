import { embedderDetails } from '../../src/adapters/clip/embedderRecord.js';
import { proveOurs } from '../../src/adapters/processes/ownership.js';
import { createRecordStore } from '../../src/adapters/processes/records.js';
import type { System } from '../system/system.js';

/** The live embedders that are vramflow's, as their records on disk prove. Looks only: the agent adopts and ends. */
export async function embeddersOf(system: System): Promise<{ pid: number | null; device: 'cpu' | 'cuda' }[]> {
  const store = createRecordStore(`${system.folder}/data/agents/${system.host}/simulated/embedder`, embedderDetails);
  const records = await store.list();
  const proofs = await Promise.all(records.map((record) => proveOurs(record)));
  return records.filter((_, index) => proofs[index] === 'ours');
}
