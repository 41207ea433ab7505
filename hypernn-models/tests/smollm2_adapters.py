"""SmolLM2 with adapters by transformers and PEFT, and by llama.cpp, for tests/smollm2_adapters.rs.

    python smollm2_adapters.py FOLDER MODEL.gguf

reads FOLDER/prompts.json (tokens of each prompt), FOLDER/adapter (a PEFT folder), FOLDER/adapter.gguf and FOLDER/f32.gguf
(the model, dequantised), and writes FOLDER/ours.safetensors (logits with the adapter), FOLDER/theirs (an adapter by PEFT),
FOLDER/theirs.safetensors (logits with it) and FOLDER/continuations.json (greedy tokens by llama.cpp with the adapter).
"""

import json
import sys
from pathlib import Path

import llama_cpp
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM

NEW_TOKENS = 16


def base(path):
    names = {"pretrained_model_name_or_path": str(path.parent), "gguf_file": path.name}
    return AutoModelForCausalLM.from_pretrained(**names, dtype=torch.float32)


def save_logits(model, prompts, path):
    model.eval()
    with torch.no_grad():
        logits = {f"{at:02}": model(torch.tensor([ids])).logits[0].contiguous() for at, ids in enumerate(prompts)}
    save_file(logits, path)


def adapter_by_peft(model):
    torch.manual_seed(3)
    config = LoraConfig(r=4, lora_alpha=8, target_modules=["q_proj", "o_proj", "down_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    for name, parameter in model.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.02)
    return model


def continuations(folder, prompts):
    # Keys and values in f32, which is type 0.
    model = llama_cpp.Llama(
        str(folder / "f32.gguf"), lora_path=str(folder / "adapter.gguf"), n_ctx=64, type_k=0, type_v=0, verbose=False
    )
    greedy = []
    for ids in prompts:
        model.reset()
        tokens = model.generate(ids, temp=0.0, repeat_penalty=1.0, top_k=1)
        greedy.append([token for _, token in zip(range(NEW_TOKENS), tokens)])
    return greedy


def main():
    folder, model = Path(sys.argv[1]), Path(sys.argv[2])
    prompts = json.loads((folder / "prompts.json").read_text())
    save_logits(PeftModel.from_pretrained(base(model), folder / "adapter"), prompts, folder / "ours.safetensors")
    theirs = adapter_by_peft(base(model))
    theirs.save_pretrained(folder / "theirs")
    save_logits(theirs, prompts, folder / "theirs.safetensors")
    (folder / "continuations.json").write_text(json.dumps(continuations(folder, prompts)))


if __name__ == "__main__":
    main()
