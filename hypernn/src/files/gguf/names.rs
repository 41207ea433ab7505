//! The names that Hugging Face gives to the tensors of an architecture, and those of llama.cpp.

/// One architecture's names.
pub(crate) struct Names {
    /// In front of the number of a layer, Hugging Face's.
    layers: &'static str,
    /// Names of llama.cpp without a layer, and Hugging Face's.
    whole: &'static [(&'static str, &'static str)],
    /// Those below a layer.
    in_layer: &'static [(&'static str, &'static str)],
    /// Whether llama.cpp keeps the rows of queries and keys in the order of its rotary embedding.
    pub(super) permuted: bool,
}

/// In front of the number of a layer, llama.cpp's.
const BLOCK: &str = "blk.";

const DECODER: Names = Names {
    layers: "model.layers.",
    whole: &[
        ("token_embd", "model.embed_tokens"),
        ("output_norm", "model.norm"),
        ("output", "lm_head"),
    ],
    in_layer: &[
        ("attn_norm", "input_layernorm"),
        ("attn_q", "self_attn.q_proj"),
        ("attn_k", "self_attn.k_proj"),
        ("attn_v", "self_attn.v_proj"),
        ("attn_output", "self_attn.o_proj"),
        ("ffn_norm", "post_attention_layernorm"),
        ("ffn_gate", "mlp.gate_proj"),
        ("ffn_up", "mlp.up_proj"),
        ("ffn_down", "mlp.down_proj"),
    ],
    permuted: false,
};

const LLAMA: Names = Names { permuted: true, ..DECODER };

const BERT: Names = Names {
    layers: "encoder.layer.",
    whole: &[
        ("token_embd", "embeddings.word_embeddings"),
        ("position_embd", "embeddings.position_embeddings"),
        ("token_types", "embeddings.token_type_embeddings"),
        ("token_embd_norm", "embeddings.LayerNorm"),
    ],
    in_layer: &[
        ("attn_q", "attention.self.query"),
        ("attn_k", "attention.self.key"),
        ("attn_v", "attention.self.value"),
        ("attn_output", "attention.output.dense"),
        ("attn_output_norm", "attention.output.LayerNorm"),
        ("ffn_up", "intermediate.dense"),
        ("ffn_down", "output.dense"),
        ("layer_output_norm", "output.LayerNorm"),
    ],
    permuted: false,
};

impl Names {
    /// Those of an architecture, as `general.architecture` names it.
    pub(crate) fn of(architecture: &str) -> Option<&'static Self> {
        match architecture {
            "llama" => Some(&LLAMA),
            "qwen2" => Some(&DECODER),
            "bert" => Some(&BERT),
            _ => None,
        }
    }

    /// Hugging Face's name of llama.cpp's tensor.
    pub(super) fn hugging_face(&self, name: &str) -> Option<String> {
        let (module, kind) = name.rsplit_once('.')?;
        let Some((number, module)) = numbered(module, BLOCK) else {
            let (_, theirs) = self.whole.iter().find(|(ours, _)| *ours == module)?;
            return Some(format!("{theirs}.{kind}"));
        };
        let (_, theirs) = self.in_layer.iter().find(|(ours, _)| *ours == module)?;
        Some(format!("{}{number}.{theirs}.{kind}", self.layers))
    }

    /// llama.cpp's name of Hugging Face's module.
    pub(super) fn llama_cpp(&self, module: &str) -> Option<String> {
        if let Some((number, module)) = numbered(module, self.layers) {
            let (ours, _) = self.in_layer.iter().find(|(_, theirs)| *theirs == module)?;
            return Some(format!("{BLOCK}{number}.{ours}"));
        }
        let (ours, _) = self.whole.iter().find(|(_, theirs)| *theirs == module)?;
        Some((*ours).to_owned())
    }
}

/// The number and the rest of a path that begins with `front` and a number.
fn numbered<'a>(path: &'a str, front: &str) -> Option<(usize, &'a str)> {
    let (number, rest) = path.strip_prefix(front)?.split_once('.')?;
    Some((number.parse().ok()?, rest))
}

/// The order of rows in a projection to `heads` heads whose halves are rotated together.
///
/// Hugging Face's rotary embedding turns value `d` of a head's first half with value `d` of its second half, llama.cpp's
/// turns neighbours, so that its converter puts them side by side (`LlamaModel.permute` in `convert_hf_to_gguf.py`).
#[derive(Clone, Copy)]
pub(crate) struct HeadRows {
    half: usize,
}

impl HeadRows {
    /// None where the rows are not those of so many heads of an even width.
    pub(crate) fn new(rows: usize, heads: usize) -> Option<Self> {
        let width = rows.checked_div(heads)?;
        (rows.is_multiple_of(heads) && width.is_multiple_of(2) && width > 0)
            .then_some(Self { half: width / 2 })
    }

    /// Where llama.cpp has Hugging Face's row.
    pub(crate) fn in_gguf(self, row: usize) -> usize {
        let (head, within) = (row / (2 * self.half), row % (2 * self.half));
        head * 2 * self.half + within % self.half * 2 + within / self.half
    }
}
