"""A language model of two layers, its adapter by PEFT, and its GGUF file, with the logits of each.

    python language.py write            the files p_… beside this one
    python language.py logits BASE ADAPTER IDS OUT
                                        what transformers and PEFT compute of an adapter in the folder ADAPTER
                                        over the model in the folder BASE, for the ids in the file IDS
    python language.py llama BASE ADAPTER IDS OUT
                                        what llama.cpp computes of an adapter over a model, both in GGUF

Written with torch 2.15.0, transformers 5.24.0, peft 0.21.2, gguf 0.19.0.
"""

import sys
from pathlib import Path

import gguf
import numpy as np
import torch
from gguf import GGMLQuantizationType as Type
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

HERE = Path(__file__).parent
HEADS, KEY_HEADS, WIDTH, LAYERS = 4, 2, 32, 2


def logits(model, ids):
    with torch.no_grad():
        return model.eval()(ids.long()).logits.float().contiguous()


def base():
    config = LlamaConfig(
        vocab_size=48, hidden_size=WIDTH, intermediate_size=32, num_hidden_layers=LAYERS,
        num_attention_heads=HEADS, num_key_value_heads=KEY_HEADS, max_position_embeddings=64,
        rms_norm_eps=1e-5, tie_word_embeddings=False, bos_token_id=1, eos_token_id=2,
    )
    torch.manual_seed(0)
    model = LlamaForCausalLM(config).float()
    for name, tensor in model.named_parameters():
        # Larger than by default, so that the attention is not flat.
        torch.nn.init.normal_(tensor, 1. if "norm" in name else 0., 0.2)
    return model


def adapter(model):
    config = LoraConfig(r=4, lora_alpha=6, target_modules=["q_proj", "v_proj"], task_type="CAUSAL_LM")
    model = get_peft_model(model, config)
    for name, tensor in model.named_parameters():
        if "lora_" in name:
            torch.nn.init.normal_(tensor, 0., 0.3)
    return model


def permuted(weight, heads):
    """As `LlamaModel.permute` of llama.cpp's `convert_hf_to_gguf.py`."""
    rows = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *weight.shape[1:])
    return rows.swapaxes(1, 2).reshape(weight.shape)


def to_gguf(model, path):
    config = model.config
    out = gguf.GGUFWriter(path, "llama")
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(config.max_position_embeddings)
    out.add_embedding_length(config.hidden_size)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(config.num_attention_heads)
    out.add_head_count_kv(config.num_key_value_heads)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(10000.)
    out.add_rope_dimension_count(config.hidden_size // config.num_attention_heads)
    out.add_vocab_size(config.vocab_size)
    out.add_tokenizer_model("no_vocab")
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    for name, tensor in model.state_dict().items():
        values = tensor.numpy()
        if "q_proj" in name:
            values = permuted(values, HEADS)
        if "k_proj" in name:
            values = permuted(values, KEY_HEADS)
        kind = Type.F32 if values.ndim == 1 else Type.Q8_0 if "embed" in name else Type.Q4_1
        data = gguf.quants.quantize(np.ascontiguousarray(values), kind)
        out.add_tensor(names.get_name(name, (".weight",)), data, raw_dtype=kind)
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write():
    model = base()
    torch.manual_seed(1)
    ids = torch.randint(0, 48, (3, 9))
    found = {"ids": ids.int(), "base": logits(model, ids)}
    model.save_pretrained(HERE / "p_llama")
    to_gguf(model, HERE / "p_llama.gguf")
    quantised = AutoModelForCausalLM.from_pretrained(HERE, gguf_file="p_llama.gguf")
    found["gguf"] = logits(quantised, ids)
    adapted = adapter(model)
    found["adapter"] = logits(adapted, ids)
    adapted.save_pretrained(HERE / "p_llama_adapter")
    save_file(found, HERE / "p_logits.safetensors")
    (HERE / "p_llama_adapter/README.md").unlink()
    (HERE / "p_llama/generation_config.json").unlink()


def adapted_logits(folder, adapter, ids, out):
    model = AutoModelForCausalLM.from_pretrained(folder)
    model = PeftModel.from_pretrained(model, adapter)
    save_file({"logits": logits(model, load_file(ids)["ids"])}, out)


def llama_logits(base, adapter, ids, out):
    import llama_cpp

    # Keys and values in f32, which is type 0.
    model = llama_cpp.Llama(base, lora_path=adapter, n_ctx=64, logits_all=True, type_k=0, type_v=0, verbose=False)
    found = []
    for row in load_file(ids)["ids"].tolist():
        model.reset()
        model.eval(row)
        found.append(torch.tensor(model.scores[: len(row)]).float())
    save_file({"logits": torch.stack(found)}, out)


if __name__ == "__main__":
    {"write": write, "logits": adapted_logits, "llama": llama_logits}[sys.argv[1]](*sys.argv[2:])
