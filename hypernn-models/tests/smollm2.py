"""Logits, greedy continuations and tokens of SmolLM2 by transformers, for tests/smollm2.rs.

    python smollm2.py MODEL.gguf FOLDER

writes FOLDER/reference.safetensors (logits of each prompt) and FOLDER/reference.json.
"""

import json
import os
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import save_file
from tokenizers import pre_tokenizers
from transformers import AutoModelForCausalLM, AutoTokenizer

PROMPTS = [
    "The capital of France is",
    "Once upon a time, there was a small",
    "def fibonacci(n):\n    ",
    "12 + 30 = 42. 17 + 26 =",
    "Water boils at 100 degrees",
    "The opposite of hot is",
    "Roses are red, violets are",
    "import numpy as np\n\nx = np.",
    "To be, or not to be: that is",
    "In 1969, Neil Armstrong",
    "The plural of mouse is",
    "Q: What is the colour of the sky?\nA:",
    "Der Hund ist ein",
    "<html>\n  <head>\n    <title>",
    "She sells sea shells by the",
    "The quick brown fox jumps over the lazy dog. The lazy dog",
    "3.14159",
    "Dear Sir or Madam,\n\nI am writing to",
    "A",
    "The largest planet of the solar system is Jupiter, and the smallest is",
]
NEW_TOKENS = 24
TEXTS = PROMPTS + [
    "hello", " hello", "  two spaces", "tabs\tand\nlines\r\n", "1234567890", "a1b22c333", "it's we'll I'm they'VE",
    "naïve café Übergröße", "日本語のテキスト", "🙂👩‍👩‍👧 emoji", "e\u0301 combined", "<|im_start|>user\nHi<|im_end|>\n", "",
    "trailing space ", "\n\n\n", "x" * 70, "snake_case camelCase SCREAMING", "½ ² Ⅷ ٣", "--- *** ///", "\u00a0nbsp\u200b zero",
]


def milliseconds_per_token(model, ids, new):
    """Of the prompt, and of what follows."""
    with torch.no_grad():
        start = time.perf_counter()
        out = model(ids, use_cache=True)
        prompt = time.perf_counter() - start
        start = time.perf_counter()
        for _ in range(new):
            token = out.logits[:, -1].argmax(-1, keepdim=True)
            out = model(token, past_key_values=out.past_key_values, use_cache=True)
        rest = time.perf_counter() - start
    return 1000 * prompt / ids.shape[1], 1000 * rest / new


def main():
    path, folder = Path(sys.argv[1]), Path(sys.argv[2])
    torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", "2")))
    names = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    tokenizer = AutoTokenizer.from_pretrained(**names)
    # As in the model's tokenizer.json and in llama.cpp; of a GGUF file, transformers leaves the digits out.
    split = [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    tokenizer.backend_tokenizer.pre_tokenizer = pre_tokenizers.Sequence(split)
    model = AutoModelForCausalLM.from_pretrained(**names, dtype=torch.float32).eval()
    logits, records = {}, []
    for at, prompt in enumerate(PROMPTS):
        ids = tokenizer(prompt, return_tensors="pt", add_special_tokens=False).input_ids
        with torch.no_grad():
            logits[f"{at:02}"] = model(ids).logits[0].contiguous()
            text = model.generate(ids, max_new_tokens=NEW_TOKENS, do_sample=False, eos_token_id=None, pad_token_id=0)
        records.append({"prompt": prompt, "ids": ids[0].tolist(), "continuation": text[0, ids.shape[1] :].tolist()})
    texts = [{"text": text, "ids": tokenizer(text, add_special_tokens=False).input_ids} for text in TEXTS]
    long = (torch.arange(256) * 97 % 40000 + 100).unsqueeze(0)
    milliseconds_per_token(model, long, 8)
    prompt, rest = min(milliseconds_per_token(model, long, 32) for _ in range(3))
    save_file(logits, folder / "reference.safetensors")
    reference = {"records": records, "texts": texts, "prompt_ms": prompt, "token_ms": rest}
    (folder / "reference.json").write_text(json.dumps(reference))


if __name__ == "__main__":
    main()
