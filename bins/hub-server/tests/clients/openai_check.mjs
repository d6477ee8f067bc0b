// Checks a running hub with OpenAI's own package for Node.
//
//     node openai_check.mjs http://127.0.0.1:8484/v1 CHAT_MODEL EMBEDDING_MODEL
//
// Prints a line a check; exits with 1 if one fails. Needs `npm install openai` where Node looks for packages.

import assert from "node:assert/strict";
import OpenAI from "openai";
import { VERSION } from "openai/version";

const [baseURL, CHAT, EMBED] = process.argv.slice(2);
const client = new OpenAI({ baseURL, apiKey: "sk-anything", maxRetries: 0 });
const messages = [{ role: "user", content: "How do I list my models?" }];
const greedy = { model: CHAT, temperature: 0, max_tokens: 16 };

async function refused(kind, promise, param, code) {
  const error = await promise.then(
    () => assert.fail(`no ${kind.name}`),
    (error) => error,
  );
  assert.ok(error instanceof kind, `${error} is no ${kind.name}`);
  if (param) assert.equal(error.param, param);
  if (code) assert.equal(error.code, code);
  return error;
}

const checks = {
  async models() {
    const names = [];
    for await (const model of client.models.list()) names.push(model.id);
    assert.ok(names.includes(CHAT) && names.includes(EMBED), names.join());
    assert.equal((await client.models.retrieve(CHAT)).id, CHAT);
  },

  async chat_whole() {
    const answer = await client.chat.completions.create({ ...greedy, messages });
    assert.ok(answer.choices[0].message.content);
    assert.equal(answer.choices[0].message.role, "assistant");
    const { prompt_tokens, completion_tokens, total_tokens } = answer.usage;
    assert.equal(prompt_tokens + completion_tokens, total_tokens);
  },

  async chat_streamed() {
    const whole = await client.chat.completions.create({ ...greedy, messages });
    const options = { stream: true, stream_options: { include_usage: true } };
    const stream = await client.chat.completions.create({ ...greedy, ...options, messages });
    let text = "";
    let last;
    for await (const chunk of stream) {
      text += chunk.choices[0]?.delta.content ?? "";
      last = chunk;
    }
    assert.equal(text, whole.choices[0].message.content);
    assert.deepEqual(last.usage, whole.usage);
  },

  async chat_helper() {
    const stream = client.chat.completions.stream({ ...greedy, messages, stream_options: { include_usage: true } });
    const final = await stream.finalChatCompletion();
    assert.ok(final.choices[0].message.content);
    assert.equal(final.choices[0].message.role, "assistant");
    assert.ok((await stream.totalUsage()).completion_tokens > 0);
  },

  async chat_together() {
    const calls = Array.from({ length: 8 }, () => client.chat.completions.create({ ...greedy, messages }));
    const texts = (await Promise.all(calls)).map((answer) => answer.choices[0].message.content);
    assert.equal(new Set(texts).size, 1);
  },

  async chat_left() {
    const stream = await client.chat.completions.create({ ...greedy, messages, stream: true });
    for await (const _ of stream) break;
    await checks.chat_whole();
  },

  async chat_headers() {
    const { response } = await client.chat.completions.create({ ...greedy, messages }).withResponse();
    assert.equal(response.headers.get("x-hub-model"), CHAT);
    assert.ok(response.headers.get("x-hub-route") && response.headers.get("x-request-id"));
  },

  async completions() {
    const answer = await client.completions.create({ ...greedy, prompt: ["How do", "What is"], echo: true });
    assert.equal(answer.choices.length, 2);
    assert.ok(answer.choices[0].text.startsWith("How do"));
    let text = "";
    const stream = await client.completions.create({ ...greedy, prompt: "How do", stream: true });
    for await (const chunk of stream) text += chunk.choices[0].text;
    assert.ok(text);
  },

  async embeddings() {
    const input = ["How do I list my models?", "Xin chào"];
    // Asks for base64 and decodes it.
    const packed = await client.embeddings.create({ model: EMBED, input });
    const plain = await client.embeddings.create({ model: EMBED, input, encoding_format: "float" });
    for (const at of [0, 1]) {
      const [a, b] = [packed.data[at].embedding, plain.data[at].embedding];
      assert.ok(a.length > 0);
      assert.equal(a.length, b.length);
      assert.ok(a.every((value, i) => Math.abs(value - b[i]) < 1e-6));
    }
    const fewer = await client.embeddings.create({ model: EMBED, input: "a", dimensions: 2 });
    assert.equal(fewer.data[0].embedding.length, 2);
  },

  async errors() {
    const chat = (extra) => client.chat.completions.create({ ...greedy, messages, ...extra });
    await refused(OpenAI.NotFoundError, chat({ model: "gpt-9" }), "model", "model_not_found");
    await refused(OpenAI.BadRequestError, chat({ messages: [] }), "messages");
    const tools = [{ type: "function", function: { name: "now", parameters: {} } }];
    await refused(OpenAI.BadRequestError, chat({ tools }), "tools", "unsupported_parameter");
    const tooLong = { max_tokens: 1_000_000 };
    await refused(OpenAI.BadRequestError, chat(tooLong), "messages", "context_length_exceeded");
    await refused(OpenAI.BadRequestError, chat({ ...tooLong, stream: true }), "messages", "context_length_exceeded");
    const missing = await refused(OpenAI.NotFoundError, client.images.generate({ model: CHAT, prompt: "a cat" }));
    assert.deepEqual(Object.keys(missing.error).sort(), ["code", "message", "param", "type"]);
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`openai-node ${VERSION}: ${name} ok`);
  } catch (error) {
    failed += 1;
    console.log(`openai-node ${VERSION}: ${name} failed`);
    console.error(error);
  }
}
process.exit(failed ? 1 : 0);
