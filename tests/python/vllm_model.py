"""Writes a Llama of nonsense that a real vLLM serves, with its tokenizer, to a folder: random weights, some 10 MB.

usage: vllm_model.py FOLDER

Every token is plain ASCII: a token that is a part of a character has no text of its own, and a server that waits for the
rest would send its first chunk later than it made its first token. The same versions write the same files.
"""

import glob
import os
import sys
import sysconfig

import tokenizers
import torch
import transformers

VOCABULARY = 2000
SPECIAL = ["<s>", "</s>", "<pad>"]

# A message on a line of its own, and who is to go on. Jinja, as transformers renders it.
CHAT = "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}assistant: "


def texts():
    """Something to learn words from that is wherever Python is: its own library."""
    for path in sorted(glob.glob(os.path.join(sysconfig.get_path("stdlib"), "*.py")))[:40]:
        with open(path, encoding="utf-8", errors="replace") as file:
            yield file.read().encode("ascii", "ignore").decode()


def tokenizer():
    learned = tokenizers.Tokenizer(tokenizers.models.BPE())
    learned.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False)
    learned.decoder = tokenizers.decoders.ByteLevel()
    # Printable characters, and what the byte level has in place of a space and of the end of a line.
    alphabet = [chr(code) for code in range(0x21, 0x7F)] + ["\u0120", "\u010a"]
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=VOCABULARY, special_tokens=SPECIAL, initial_alphabet=alphabet, show_progress=False
    )
    learned.train_from_iterator(texts(), trainer)
    begin, end, pad = SPECIAL
    made = transformers.PreTrainedTokenizerFast(
        tokenizer_object=learned, bos_token=begin, eos_token=end, pad_token=pad, clean_up_tokenization_spaces=False
    )
    made.chat_template = CHAT
    return made


def main():
    (folder,) = sys.argv[1:]
    made = tokenizer()
    made.save_pretrained(folder)
    torch.manual_seed(1)
    config = transformers.LlamaConfig(
        vocab_size=len(made),
        # Heads of 64: vLLM's attention on the CPU takes few sizes.
        hidden_size=128,
        num_attention_heads=2,
        num_key_value_heads=2,
        intermediate_size=256,
        num_hidden_layers=2,
        max_position_embeddings=4096,
        bos_token_id=0,
        eos_token_id=1,
        pad_token_id=2,
    )
    transformers.LlamaForCausalLM(config).to(torch.float32).save_pretrained(folder)


main()
