"""Makes a small random release with the release's vocabulary out of a recording's checkpoint: its token table's and its head's rows are
repeated until there are enough, so that the release's tokenizer fits. Standard library only.
"""
import json
import pathlib
import struct

VOCABULARY = 129_280
REPEATED = ("model.embed_tokens.weight", "lm_head.weight")


def read(path):
    """Name -> (dtype, shape, bytes) of a safetensors file."""
    data = path.read_bytes()
    (length,) = struct.unpack_from("<Q", data)
    header = json.loads(data[8 : 8 + length])
    header.pop("__metadata__", None)
    start = 8 + length

    def values(entry):
        begin, end = entry["data_offsets"]
        return entry["dtype"], entry["shape"], data[start + begin : start + end]

    return {name: values(entry) for name, entry in header.items()}


def write(path, tensors):
    header, at = {}, 0
    for name, (dtype, shape, data) in tensors.items():
        header[name] = {"dtype": dtype, "shape": shape, "data_offsets": [at, at + len(data)]}
        at += len(data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for _, _, data in tensors.values():
            file.write(data)


def make(checkpoint: pathlib.Path, target: pathlib.Path):
    """Writes the release's directory."""
    target.mkdir(parents=True)
    config = json.loads((checkpoint / "config.json").read_text())
    config["vocab_size"] = config["language_config"]["vocab_size"] = VOCABULARY
    # Room for texts that do not end by themselves.
    for place in (config, config["language_config"]):
        place["max_position_embeddings"] = 8192
    (target / "config.json").write_text(json.dumps(config))
    tensors = read(checkpoint / "model.safetensors")
    for name in REPEATED:
        dtype, shape, data = tensors[name]
        wanted = len(data) // shape[0] * VOCABULARY
        tensors[name] = dtype, [VOCABULARY, *shape[1:]], (data * (VOCABULARY // shape[0] + 1))[:wanted]
    write(target / "model.safetensors", tensors)
