"""Writes a llama model of random weights in GGUF, about half a megabyte, that a real Ollama can create and run.

    python3 makeTinyGguf.py OUT.gguf [--context TOKENS] [--seed NUMBER] [--embeds]     (needs: pip install gguf numpy)

What it says means nothing: letters, on and on, and it never ends by itself. Sizes, states and times are real. The same arguments give the same bytes; another seed
or context gives another file, which matters: Ollama runs models of equal bytes in one runner, as one model.
With --embeds the file says how to pool tokens, which is how Ollama knows a model that embeds and cannot generate.
"""

import argparse

import gguf
import numpy

WIDTH = 64
HEADS = 4
HIDDEN = 128
LAYERS = 2

NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6
TOKENS = (
    [(b"<unk>", UNKNOWN), (b"<s>", CONTROL), (b"</s>", CONTROL)]
    + [(b"<0x%02X>" % value, BYTE) for value in range(256)]
    + [(letter.encode(), NORMAL) for letter in "abcdefghijklmnopqrstuvwxyz\u2581"]
)


def talk_for_ever(name: str, weights: numpy.ndarray) -> None:
    """One dimension is large in every state, and counts against every token that is no letter: the end among them."""
    if name == "token_embd":
        weights[:, 0] = 1
    if name == "output":
        weights[:, 0] = [0 if kind == NORMAL else -5 for _, kind in TOKENS]


def write(path: str, context: int, seed: int, embeds: bool) -> None:
    file = gguf.GGUFWriter(path, "llama")
    file.add_context_length(context)
    file.add_embedding_length(WIDTH)
    file.add_block_count(LAYERS)
    file.add_feed_forward_length(HIDDEN)
    file.add_head_count(HEADS)
    file.add_head_count_kv(HEADS)
    file.add_rope_dimension_count(WIDTH // HEADS)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_file_type(0)
    if embeds:
        file.add_pooling_type(gguf.PoolingType.MEAN)
    file.add_vocab_size(len(TOKENS))
    file.add_tokenizer_model("llama")
    file.add_token_list([text for text, _ in TOKENS])
    file.add_token_types([kind for _, kind in TOKENS])
    file.add_token_scores([0.0] * len(TOKENS))
    file.add_unk_token_id(0)
    file.add_bos_token_id(1)
    file.add_eos_token_id(2)

    random = numpy.random.default_rng(seed)
    matrices = {"token_embd": (len(TOKENS), WIDTH), "output": (len(TOKENS), WIDTH)}
    norms = ["output_norm"]
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        norms += [block + "attn_norm", block + "ffn_norm"]
        matrices |= {block + name: (WIDTH, WIDTH) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        matrices |= {block + name: (HIDDEN, WIDTH) for name in ("ffn_gate", "ffn_up")}
        matrices[block + "ffn_down"] = (WIDTH, HIDDEN)
    for name in norms:
        file.add_tensor(name + ".weight", numpy.ones(WIDTH, numpy.float32))
    for name, shape in matrices.items():
        weights = (random.standard_normal(shape) * 0.05).astype(numpy.float32)
        if not embeds:
            talk_for_ever(name, weights)
        file.add_tensor(name + ".weight", weights)

    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    parser.add_argument("--context", type=int, default=16384)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embeds", action="store_true")
    arguments = parser.parse_args()
    write(arguments.out, arguments.context, arguments.seed, arguments.embeds)
