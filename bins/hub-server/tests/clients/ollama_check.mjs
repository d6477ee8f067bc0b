// Checks a running hub with Ollama's own package for JavaScript.
//
//     node ollama_check.mjs http://127.0.0.1:8484 CHAT_MODEL EMBEDDING_MODEL
//
// Prints a line a check; exits with 1 if one fails. Needs `npm install ollama` where Node looks for packages.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { Ollama } from "ollama";

const [host, CHAT, EMBED] = process.argv.slice(2);
const manifest = new URL("../package.json", import.meta.resolve("ollama"));
const { version: VERSION } = JSON.parse(await readFile(manifest, "utf8"));
const client = new Ollama({ host });
const content = "How do I import a model?";
const messages = [{ role: "user", content }];
const greedy = { model: CHAT, options: { temperature: 0 } };

async function collect(stream, text) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  const last = parts.at(-1);
  assert.ok(last.done && last.done_reason === "stop" && last.eval_count > 0, JSON.stringify(last));
  return parts.map(text).join("");
}

const checks = {
  async list() {
    const { models } = await client.list();
    for (const name of [CHAT, EMBED]) {
      const model = models.find((model) => model.name === name);
      assert.ok(model && model.size > 0 && model.digest.length >= 12 && model.details.format, name);
      assert.ok(!Number.isNaN(Date.parse(model.modified_at)), model.modified_at);
    }
  },

  async show() {
    const chat = await client.show({ model: CHAT });
    assert.deepEqual(chat.capabilities, ["completion"]);
    assert.ok(chat.template && chat.details.quantization_level);
    assert.ok(chat.model_info[`${chat.model_info["general.architecture"]}.context_length`] > 0);
    assert.deepEqual((await client.show({ model: EMBED })).capabilities, ["embedding"]);
  },

  async version() {
    assert.match((await client.version()).version, /^\d+\.\d+\.\d+/);
  },

  async chat() {
    const whole = await client.chat({ ...greedy, messages });
    assert.equal(whole.message.role, "assistant");
    assert.match(whole.message.content, /hub import/);
    assert.ok(whole.done && whole.total_duration > 0 && whole.prompt_eval_count > 0);
    const stream = await client.chat({ ...greedy, model: `${CHAT}:latest`, messages, stream: true });
    assert.equal(await collect(stream, (part) => part.message.content), whole.message.content);
  },

  async chat_left() {
    const stream = await client.chat({ ...greedy, messages, stream: true });
    for await (const _ of stream) {
      stream.abort();
      break;
    }
    await checks.chat();
  },

  async generate() {
    const whole = await client.generate({ ...greedy, prompt: content });
    assert.match(whole.response, /hub import/);
    const stream = await client.generate({ ...greedy, prompt: content, stream: true });
    assert.equal(await collect(stream, (part) => part.response), whole.response);
    const raw = await client.generate({ model: CHAT, prompt: "How do", raw: true, options: { num_predict: 3 } });
    assert.ok(raw.eval_count <= 3, JSON.stringify(raw));
  },

  async embed() {
    const { embeddings } = await client.embed({ model: EMBED, input: ["Xin chào", "Hello"] });
    assert.deepEqual(embeddings.map((vector) => vector.length), [384, 384]);
    const { embedding } = await client.embeddings({ model: EMBED, prompt: "Hello" });
    assert.ok(embedding.every((value, at) => Math.abs(value - embeddings[1][at]) < 1e-4));
  },

  async ps() {
    const { models } = await client.ps();
    const chat = models.find((model) => model.name === CHAT);
    assert.ok(chat && chat.size > 0 && Date.parse(chat.expires_at) > Date.now(), JSON.stringify(models));
  },

  async errors() {
    const missing = client.chat({ model: "nothing", messages });
    await assert.rejects(missing, (error) => error.status_code === 404 && error.message.includes(CHAT));
    const streamed = client.chat({ model: "nothing", messages, stream: true });
    await assert.rejects(streamed, (error) => error.status_code === 404 && error.message.includes(CHAT));
    const format = client.chat({ ...greedy, messages, format: "json" });
    await assert.rejects(format, (error) => error.status_code === 400 && error.message.includes("format"));
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`ollama-js ${VERSION}: ${name} ok`);
  } catch (error) {
    failed += 1;
    console.log(`ollama-js ${VERSION}: ${name} failed`);
    console.error(error);
  }
}
process.exit(failed ? 1 : 0);
