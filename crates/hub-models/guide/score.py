"""Asks hub-guide.gguf the held-out questions at temperature 0, with its weights unpacked and run by transformers.

`python score.py [FILE.gguf] [--wrong | --all]` prints the score, and the answers that miss their fact or all of them.
"""

import sys
from pathlib import Path

import jinja2
import torch

import gguf_file
from questions import HERE, held_out, holds_fact

LONGEST_ANSWER = 120


@torch.inference_mode()
def answer(model, tokenizer, template, messages):
    """Returns the likeliest answer to a conversation."""
    text = jinja2.Template(template).render(messages=messages, add_generation_prompt=True)
    ids = tokenizer.encode(text).ids
    output = model.generate(
        torch.tensor([ids]),
        attention_mask=torch.ones(1, len(ids), dtype=torch.long),
        max_new_tokens=LONGEST_ANSWER,
        do_sample=False,
    )
    return tokenizer.decode(output[0, len(ids) :].tolist(), skip_special_tokens=True)


def score(path):
    """Returns, for each held-out question, the question, the answer, and whether the fact is in it."""
    model, tokenizer, template = gguf_file.read(path)
    results = []
    for item in held_out():
        said = answer(model, tokenizer, template, [{"role": "user", "content": item["question"]}])
        results.append((item, said, holds_fact(said, item["must_contain"])))
    return results


def main():
    torch.set_num_threads(1)
    paths = [argument for argument in sys.argv[1:] if not argument.startswith("--")]
    results = score(Path(paths[0]) if paths else HERE / "hub-guide.gguf")
    for item, said, is_right in results:
        if "--all" in sys.argv or ("--wrong" in sys.argv and not is_right):
            print(f"{'ok   ' if is_right else 'WRONG'} {item['question']}\n      {said}")
    for language in ("en", "vi"):
        own = [is_right for item, _, is_right in results if item["lang"] == language]
        print(f"{language}: {sum(own)} of {len(own)}")
    print(f"all: {sum(is_right for _, _, is_right in results)} of {len(results)}")


if __name__ == "__main__":
    main()
