"""Writes sentencepiece.json: a small SentencePiece model (BPE with bytes, as Llama 2's) trained on this repository's
README, and what it makes of some texts.

    python3 sentencepiece.py README.md sentencepiece.json     # needs the package sentencepiece
"""

import io
import json
import sys

import sentencepiece

TEXTS = [
    "A hypernetwork generates the weights of another network.",
    " a space in front, and  two   inside\tand a tab",
    "lines\n\nand one more\n",
    "let hyper = H::new(vb)?; // 12.5 % of 3,072",
    "été, Straße, 二, 🙂, \u0301, \u00a0",
    "",
    " ",
    "   ",
    "x",
]

source, out = sys.argv[1:]
model = io.BytesIO()
sentencepiece.SentencePieceTrainer.train(
    sentence_iterator=iter(open(source, encoding="utf-8").read().split("\n")),
    model_writer=model,
    model_type="bpe",
    vocab_size=700,
    byte_fallback=True,
    character_coverage=0.99,
    normalization_rule_name="identity",
    remove_extra_whitespaces=False,
    add_dummy_prefix=True,
    split_digits=True,
    allow_whitespace_only_pieces=True,
    user_defined_symbols=["<tool>"],
    num_threads=1,
    minloglevel=2,
)
processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
pieces = range(processor.vocab_size())


def type_of(piece):
    """As GGUF files number them."""
    if processor.is_unknown(piece):
        return 2
    if processor.is_control(piece):
        return 3
    if processor.id_to_piece(piece) == "<tool>":
        return 4
    return 6 if processor.is_byte(piece) else 1


json.dump(
    {
        "tokens": [processor.id_to_piece(piece) for piece in pieces],
        "scores": [processor.get_score(piece) for piece in pieces],
        "types": [type_of(piece) for piece in pieces],
        "encoded": [{"text": text, "ids": processor.encode(text)} for text in TEXTS],
    },
    open(out, "w", encoding="utf-8"),
    ensure_ascii=False,
    indent=0,
)
