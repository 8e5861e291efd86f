"""Writes a llama model of random weights in GGUF that a real Ollama can create and run; about half a megabyte by itself.

    python3 makeGguf.py OUT.gguf [--context TOKENS] [--seed NUMBER] [--embeds]     (needs: pip install gguf numpy)
                                 [--width NUMBER] [--layers NUMBER] [--half]

What it says means nothing: letters, on and on, and it never ends by itself. Sizes, states and times are real. The same arguments give the same bytes; another seed
or context gives another file, which matters: Ollama runs models of equal bytes in one runner, as one model.
Width and layers make it as large as a test on a GPU needs; with --half its matrices are of 16 bits.
With --embeds the file says how to pool tokens, which is how Ollama knows a model that embeds and cannot generate.
"""

import argparse

import gguf
import numpy

# A larger matrix repeats its first rows: random numbers take longer than a disk.
RANDOM_ROWS = 512

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


def matrix(random: numpy.random.Generator, shape: tuple[int, int]) -> numpy.ndarray:
    rows, columns = shape
    first = random.standard_normal((min(rows, RANDOM_ROWS), columns)) * 0.4 / columns**0.5
    return numpy.resize(first.astype(numpy.float32), shape)


def write(path: str, context: int, seed: int, embeds: bool, width: int, layers: int, half: bool) -> None:
    hidden = 2 * width
    heads = max(4, width // 128)
    file = gguf.GGUFWriter(path, "llama", use_temp_file=half)
    file.add_context_length(context)
    file.add_embedding_length(width)
    file.add_block_count(layers)
    file.add_feed_forward_length(hidden)
    file.add_head_count(heads)
    file.add_head_count_kv(heads)
    file.add_rope_dimension_count(width // heads)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_file_type(1 if half else 0)
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
    matrices = {"token_embd": (len(TOKENS), width), "output": (len(TOKENS), width)}
    norms = ["output_norm"]
    for layer in range(layers):
        block = f"blk.{layer}."
        norms += [block + "attn_norm", block + "ffn_norm"]
        matrices |= {block + name: (width, width) for name in ("attn_q", "attn_k", "attn_v", "attn_output")}
        matrices |= {block + name: (hidden, width) for name in ("ffn_gate", "ffn_up")}
        matrices[block + "ffn_down"] = (width, hidden)
    for name in norms:
        file.add_tensor(name + ".weight", numpy.ones(width, numpy.float32))
    for name, shape in matrices.items():
        weights = matrix(random, shape)
        if not embeds:
            talk_for_ever(name, weights)
        file.add_tensor(name + ".weight", weights.astype(numpy.float16) if half else weights)

    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", metavar="OUT.gguf")
    parser.add_argument("--context", type=int, default=16384)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--embeds", action="store_true")
    parser.add_argument("--width", type=int, default=64)
    parser.add_argument("--layers", type=int, default=2)
    parser.add_argument("--half", action="store_true")
    write(**vars(parser.parse_args()))
