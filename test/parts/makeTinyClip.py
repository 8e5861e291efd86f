"""Writes a CLIP of random weights as ONNX, some 250 KB, that transformers.js loads from a folder without any network.

    python3 makeTinyClip.py FOLDER [--seed NUMBER]     (needs: pip install onnx numpy)

Inputs and outputs have the shapes of ViT-B/32: images of 224 × 224, texts of at most 77 tokens, embeddings of 512
numbers that are not of unit length, as the real ones are not. They follow the input and mean nothing. The same seed
gives the same bytes with the same versions of onnx and numpy.
"""

import argparse
import json
import pathlib

import numpy
import onnx
from onnx import TensorProto, helper, numpy_helper

DIMENSION, WIDTH, CONTEXT = 512, 16, 77
SIDE, PATCH = 224, 32
PATCHES = (SIDE // PATCH) ** 2
START, END = "<|startoftext|>", "<|endoftext|>"


class Tower:
    """Builds one ONNX graph; every method adds a node or a weight and returns the name of its value."""

    def __init__(self, seed):
        self.random = numpy.random.default_rng(seed)
        self.nodes = []
        self.weights = []

    def node(self, kind, *inputs, **attributes):
        name = f"value{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, inputs, [name], **attributes))
        return name

    def value(self, array, kind=numpy.int64):
        name = f"weight{len(self.weights)}"
        self.weights.append(numpy_helper.from_array(numpy.asarray(array, kind), name))
        return name

    def noise(self, *shape, fan_in=1):
        return self.value(self.random.normal(0, fan_in**-0.5, shape), numpy.float32)

    def dense(self, x, inputs, outputs):
        return self.node("MatMul", x, self.noise(inputs, outputs, fan_in=inputs))

    def normed(self, x):
        return self.node("LayerNormalization", x, self.value(numpy.ones(WIDTH), numpy.float32))

    def block(self, x, mask=None):
        """One transformer layer: attention, then a small perceptron, each added to what came in."""
        inside = self.normed(x)
        asked, keys, values = (self.dense(inside, WIDTH, WIDTH) for _ in range(3))
        scores = self.node("MatMul", asked, self.node("Transpose", keys, perm=[0, 2, 1]))
        scores = self.node("Div", scores, self.value(WIDTH**0.5, numpy.float32))
        if mask:
            scores = self.node("Add", scores, mask)
        x = self.node("Add", x, self.node("MatMul", self.node("Softmax", scores, axis=-1), values))
        hidden = self.node("Relu", self.dense(self.normed(x), WIDTH, 4 * WIDTH))
        return self.node("Add", x, self.dense(hidden, 4 * WIDTH, WIDTH))

    def save(self, path, pooled, source, target):
        self.dense(self.normed(pooled), WIDTH, DIMENSION)
        self.nodes[-1].output[0] = target
        result = helper.make_tensor_value_info(target, TensorProto.FLOAT, ["batch", DIMENSION])
        graph = helper.make_graph(self.nodes, target, [source], [result], self.weights)
        # Named, because the newest versions that this package knows may be unknown to the runtime.
        model = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", 17)])
        onnx.checker.check_model(model, full_check=True)
        path.write_bytes(model.SerializeToString(deterministic=True))


def write_vision(path, seed):
    tower = Tower(seed)
    filters = tower.noise(WIDTH, 3, PATCH, PATCH, fan_in=3 * PATCH * PATCH)
    grid = tower.node("Conv", "pixel_values", filters, strides=[PATCH, PATCH])
    rows = tower.node("Reshape", grid, tower.value([0, WIDTH, PATCHES]))
    x = tower.node("Transpose", rows, perm=[0, 2, 1])
    x = tower.block(tower.node("Add", x, tower.noise(PATCHES, WIDTH, fan_in=4)))
    pooled = tower.node("ReduceMean", x, axes=[1], keepdims=0)
    source = helper.make_tensor_value_info("pixel_values", TensorProto.FLOAT, ["batch", 3, SIDE, SIDE])
    tower.save(path, pooled, source, "image_embeds")


def write_text(path, seed, tokens):
    tower = Tower(seed)
    length = tower.node("Shape", "input_ids", start=1, end=2)
    words = tower.node("Gather", tower.noise(tokens, WIDTH), "input_ids")
    places = tower.node("Slice", tower.noise(CONTEXT, WIDTH, fan_in=4), tower.value([0]), length)
    future = tower.value(numpy.triu(numpy.full((CONTEXT, CONTEXT), -1e9), 1), numpy.float32)
    square = tower.node("Concat", length, length, axis=0)
    mask = tower.node("Slice", future, tower.value([0, 0]), square)
    x = tower.block(tower.node("Add", words, places), mask)
    # Read at the first end token, which has the highest id; padding comes after it and is never seen.
    end = tower.node("ArgMax", tower.node("Cast", "input_ids", to=TensorProto.INT32), axis=1, keepdims=1)
    pooled = tower.node("GatherND", x, end, batch_dims=1)
    source = helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch", "length"])
    tower.save(path, pooled, source, "text_embeds")


def byte_letters():
    """The letter that byte-level BPE writes for each byte."""
    plain = [*range(ord("!"), ord("~") + 1), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    return [chr(byte) for byte in plain] + [chr(0x100 + i) for i in range(0x100 - len(plain))]


def vocabulary():
    """One token a byte, inside a word and at its end; no merges."""
    letters = byte_letters()
    names = [*letters, *(f"{letter}</w>" for letter in letters), START, END]
    return {name: number for number, name in enumerate(names)}


def settings(ids):
    split = {
        "type": "Split",
        "pattern": {"Regex": r"\p{L}+|\p{N}|[^\s\p{L}\p{N}]+"},
        "behavior": "Removed",
        "invert": True,
    }
    bytewise = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": False}
    yield "config.json", {
        "model_type": "clip",
        "projection_dim": DIMENSION,
        "text_config": {"vocab_size": len(ids), "max_position_embeddings": CONTEXT, "eos_token_id": ids[END]},
        "vision_config": {"image_size": SIDE, "patch_size": PATCH},
    }
    yield "preprocessor_config.json", {
        "image_processor_type": "CLIPImageProcessor",
        "do_convert_rgb": True,
        "do_resize": True,
        "size": {"shortest_edge": SIDE},
        "resample": 3,
        "do_center_crop": True,
        "crop_size": SIDE,
        "do_rescale": True,
        "rescale_factor": 1 / 255,
        "do_normalize": True,
        "image_mean": [0.48145466, 0.4578275, 0.40821073],
        "image_std": [0.26862954, 0.26130258, 0.27577711],
    }
    yield "tokenizer_config.json", {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": CONTEXT,
        "bos_token": START,
        "eos_token": END,
        "pad_token": END,
        "unk_token": END,
    }
    yield "tokenizer.json", {
        "added_tokens": [{"id": ids[name], "content": name, "special": True} for name in (START, END)],
        "normalizer": {"type": "Sequence", "normalizers": [{"type": "NFC"}, {"type": "Lowercase"}]},
        "pre_tokenizer": {"type": "Sequence", "pretokenizers": [split, bytewise]},
        "post_processor": {"type": "RobertaProcessing", "cls": [START, ids[START]], "sep": [END, ids[END]]},
        "decoder": bytewise,
        "model": {"type": "BPE", "unk_token": END, "end_of_word_suffix": "</w>", "vocab": ids, "merges": []},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    (given.folder / "onnx").mkdir(parents=True, exist_ok=True)
    ids = vocabulary()
    for name, content in settings(ids):
        (given.folder / name).write_text(json.dumps(content, indent=1) + "\n")
    write_vision(given.folder / "onnx/vision_model.onnx", given.seed)
    write_text(given.folder / "onnx/text_model.onnx", given.seed + 1, len(ids))


if __name__ == "__main__":
    main()
