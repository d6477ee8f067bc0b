"""Trains hub-guide from the corpus beside this file and writes hub-guide.gguf.

Usage: `python train.py [--checkpoint FILE] [--output FILE] [--begin FILE.gguf]`; needs torch, transformers, tokenizers,
gguf and jinja2. With `--begin` it teaches a trained model what the corpus says now: it keeps the file's tokenizer and
begins with its weights, and runs the last pools alone, whose rate is low.
The seed fixes the questions, their order and the first weights. Killed and started again, it goes on where the last
checkpoint was. It refuses to train when a held-out question, or one that is nearly the same, is among the training ones.
"""

import argparse
import json
import math
import random
import time
from pathlib import Path

import jinja2
import torch
from tokenizers import models, pre_tokenizers, trainers
from transformers import LlamaConfig, LlamaForCausalLM

import gguf_file
from gguf_file import END, PAD, START
from questions import HERE, LANGUAGES, Language, conversation, seen_in_training

SEED = 20261124
VOCABULARY = 2048
POOLS, POOL_CONVERSATIONS = 64, 1024
# How many pools teach a trained model what changed.
LAST_POOLS = 24
BATCH_TOKENS = 1536
PEAK_RATE, LAST_RATE, WARM_UP_STEPS = 1.5e-3, 5e-5, 100
WEIGHT_DECAY = 0.1
EMBEDDING_DROPOUT = 0.1
# How much predicting the question counts beside the answer: enough to learn which words are used alike.
QUESTION_WEIGHT = 0.2
# Questions in which some merges are skipped teach the model spellings it has not seen (Provilkov et al. 2020).
NOISY_SHARE, MERGE_DROPOUT = 0.35, 0.1
CHAT_TEMPLATE = (HERE / "chat_template.jinja").read_text(encoding="utf-8").strip()


def main():
    options = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    options.add_argument("--checkpoint", type=Path, default=Path("hub-guide.checkpoint.pt"))
    options.add_argument("--output", type=Path, default=HERE / "hub-guide.gguf")
    options.add_argument("--threads", type=int, default=1)
    options.add_argument("--begin", type=Path)
    options = options.parse_args()
    torch.set_num_threads(options.threads)

    languages = [Language(name) for name in LANGUAGES]
    pools = [draw_pool(languages, pool) for pool in range(POOLS)]
    seen = seen_in_training(messages for pool in pools for messages in pool)
    if seen:
        pairs = "\n".join(f"  {held!r} is nearly {trained!r}" for held, trained in seen.items())
        raise SystemExit(f"held-out questions are among the training ones:\n{pairs}")

    torch.manual_seed(SEED)
    if options.begin:
        model, tokenizer, _ = gguf_file.read(options.begin)
        text = Text(tokenizer)
    else:
        text = Text(trained_tokenizer(pools[: POOLS // 4]))
        model = LlamaForCausalLM(config(text))
    text.check_against_template(pools[0][:200])
    count = sum(weight.numel() for weight in model.parameters())
    print(f"{count:,} parameters, {POOLS * POOL_CONVERSATIONS:,} conversations", flush=True)
    train(model, text, pools, options)
    text.write(options.output, model)
    print(f"wrote {options.output}, {options.output.stat().st_size:,} bytes", flush=True)


def config(text):
    return LlamaConfig(
        vocab_size=VOCABULARY,
        hidden_size=256,
        intermediate_size=768,
        num_hidden_layers=5,
        num_attention_heads=4,
        num_key_value_heads=4,
        max_position_embeddings=1024,
        rms_norm_eps=1e-5,
        rope_theta=10_000.0,
        tie_word_embeddings=True,
        bos_token_id=text.pad,
        eos_token_id=text.end,
        pad_token_id=text.pad,
    )


def draw_pool(languages, pool):
    """Draws the conversations of one pool."""
    rng = random.Random(f"{SEED} pool {pool}")
    return [conversation(languages, rng) for _ in range(POOL_CONVERSATIONS)]


def trained_tokenizer(pools):
    """Makes a tokenizer of what is said in these pools."""
    tokenizer = gguf_file.new_tokenizer(models.BPE())
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=[PAD, START, END],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    texts = [f"{role}\n{text}" for pool in pools for messages in pool for role, text in messages]
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


class Text:
    """The tokenizer, and conversations as tokens."""

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        self.pad, self.start, self.end = (self.tokenizer.token_to_id(token) for token in (PAD, START, END))
        self.noisy = gguf_file.new_tokenizer(models.BPE(*self.parts(), dropout=MERGE_DROPOUT))
        self.noisy.add_special_tokens([PAD, START, END])

    def parts(self):
        """Returns the tokens with their ids, and the merges in order."""
        model = json.loads(self.tokenizer.to_str())["model"]
        return model["vocab"], [tuple(merge) for merge in model["merges"]]

    def tokens(self, messages, rng=None):
        """Returns a conversation as token ids, with how much predicting each one counts."""
        ids, weights = [], []
        for role, text in messages:
            is_noisy = rng is not None and role == "user" and rng.random() < NOISY_SHARE
            header = [self.start, *self.tokenizer.encode(f"{role}\n").ids]
            body = (self.noisy if is_noisy else self.tokenizer).encode(text).ids
            counts = 1.0 if role == "assistant" else QUESTION_WEIGHT
            # What follows the end of a message is the template's work, not the model's.
            parts = [(header, 0.0), ([*body, self.end], counts), (self.tokenizer.encode("\n").ids, 0.0)]
            for part, weight in parts:
                ids += part
                weights += [weight] * len(part)
        return ids, weights

    def check_against_template(self, conversations):
        """Makes sure that the model learns from the very tokens that it is later given."""
        template = jinja2.Template(CHAT_TEMPLATE)
        for messages in conversations:
            messages_as_sent = [{"role": role, "content": text} for role, text in messages]
            rendered = self.tokenizer.encode(template.render(messages=messages_as_sent)).ids
            assert rendered == self.tokens(messages)[0], messages

    def write(self, path, model):
        vocabulary, merges = self.parts()
        by_id = sorted(vocabulary, key=vocabulary.get)
        merges = [" ".join(merge) for merge in merges]
        gguf_file.write(path, model, self.tokenizer, by_id, merges, CHAT_TEMPLATE)


def batches(text, pool, index):
    """Cuts a pool into batches of conversations of like length, `[rows, tokens]` padded at the end."""
    rng = random.Random(f"{SEED} batches {index}")
    # The tokenizer draws the merges it skips from a generator of its own, which no seed reaches.
    rows = sorted((text.tokens(messages, rng) for messages in pool), key=lambda row: len(row[0]))
    made, batch = [], []
    for row in rows:
        if batch and len(row[0]) * (len(batch) + 1) > BATCH_TOKENS:
            made.append(batch)
            batch = []
        batch.append(row)
    made.append(batch)
    rng.shuffle(made)
    for batch in made:
        longest = max(len(ids) for ids, _ in batch)
        ids = torch.full((len(batch), longest), text.pad)
        weights = torch.zeros(len(batch), longest)
        for row, (row_ids, row_weights) in enumerate(batch):
            ids[row, : len(row_ids)] = torch.tensor(row_ids)
            weights[row, : len(row_ids)] = torch.tensor(row_weights)
        yield ids, weights


def rate(progress, step):
    """Returns the learning rate: a short climb, then half a cosine down."""
    cosine = LAST_RATE + (PEAK_RATE - LAST_RATE) * (1 + math.cos(math.pi * progress)) / 2
    return cosine * min(1, (step + 1) / WARM_UP_STEPS)


def loss_of(model, ids, weights):
    """Returns the weighted mean of the losses of the next tokens."""
    embedded = torch.nn.functional.dropout(model.model.embed_tokens(ids), EMBEDDING_DROPOUT)
    # Padding stands after the text, so the causal mask alone hides it.
    hidden = model.model(inputs_embeds=embedded, use_cache=False).last_hidden_state[:, :-1]
    targets, weights = ids[:, 1:], weights[:, 1:]
    counted = weights > 0
    losses = torch.nn.functional.cross_entropy(
        model.lm_head(hidden[counted]), targets[counted], reduction="none"
    )
    return (losses * weights[counted]).sum() / weights.sum()


def train(model, text, pools, options):
    decayed = [weight for weight in model.parameters() if weight.ndim > 1]
    others = [weight for weight in model.parameters() if weight.ndim == 1]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=PEAK_RATE, betas=(0.9, 0.98), fused=True)
    done, step, spent = POOLS - LAST_POOLS if options.begin else 0, 0, 0.0
    if options.checkpoint.exists():
        saved = torch.load(options.checkpoint)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        done, step, spent = saved["pools"], saved["step"], saved["seconds"]
    model.train()
    for index in range(done, POOLS):
        began = time.monotonic()
        made = list(batches(text, pools[index], index))
        total, tokens = 0.0, 0
        for at, (ids, weights) in enumerate(made):
            for group in optimizer.param_groups:
                group["lr"] = rate((index + at / len(made)) / POOLS, step)
            torch.manual_seed(SEED + step)
            loss = loss_of(model, ids, weights)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            step += 1
            total += loss.item()
            tokens += ids.numel()
        took = time.monotonic() - began
        spent += took
        print(
            f"pool {index + 1} of {POOLS}, step {step}, loss {total / len(made):.4f}, "
            f"{tokens / took:.0f} tokens/s, {spent / 60:.1f} min",
            flush=True,
        )
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        partial = options.checkpoint.with_suffix(".part")
        torch.save({**state, "pools": index + 1, "step": step, "seconds": spent}, partial)
        partial.replace(options.checkpoint)


if __name__ == "__main__":
    main()
