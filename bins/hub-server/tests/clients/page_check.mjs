// Checks that a page in a browser can ask a running hub, and that a page of another site cannot.
//
//     node page_check.mjs http://127.0.0.1:8484 CHAT_MODEL page.html /usr/bin/chromium [SCREENSHOT.png]
//
// The page is served from another port of loopback, and streams an answer with OpenAI's own package; then the same page
// is opened under a foreign name that leads here. Prints a line a check; exits with 1 if one fails. Needs
// `npm install openai playwright-core` where Node looks for packages.

import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { extname } from "node:path";
import { fileURLToPath } from "node:url";
import { chromium } from "playwright-core";

const [hub, CHAT, PAGE, executablePath, screenshot] = process.argv.slice(2);
const FOREIGN = "foreign.example";
const SETTING = "[server] origins";

// Serves the page, and the modules of OpenAI's package as they were installed.
const packages = new URL(".", import.meta.resolve("openai"));
const server = createServer(async (request, response) => {
  const { pathname } = new URL(request.url, "http://localhost");
  const module = pathname.startsWith("/openai/") && new URL(pathname.slice("/openai/".length), packages);
  try {
    assert.ok(pathname === "/" || (module && module.href.startsWith(packages.href)), pathname);
    const body = await readFile(module ? fileURLToPath(module) : PAGE);
    const type = extname(pathname) === ".mjs" ? "text/javascript" : "text/html";
    response.writeHead(200, { "content-type": `${type}; charset=utf-8` }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});
await new Promise((resolve) => server.listen(0, "127.0.0.1", resolve));
const { port } = server.address();

const browser = await chromium.launch({
  executablePath,
  args: [
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    `--host-resolver-rules=MAP ${FOREIGN} 127.0.0.1`,
  ],
});

// Opens the page under a name, and returns it with what it came to and what the browser asked the hub before it asked.
async function open(name) {
  const page = await (await browser.newContext()).newPage();
  const console = [];
  const preflights = [];
  page.on("console", (message) => console.push(message.text()));
  const network = await page.context().newCDPSession(page);
  await network.send("Network.enable");
  network.on("Network.responseReceived", ({ type, response }) => {
    if (type === "Preflight") preflights.push(response);
  });
  await page.goto(`http://${name}:${port}/?hub=${encodeURIComponent(hub)}&model=${CHAT}`);
  await page.waitForFunction(() => window.result, null, { timeout: 20_000 });
  return { page, console, preflights, ...(await page.evaluate(() => window.result)) };
}

const checks = {
  async page_of_loopback() {
    const { page, pieces, headers, error, preflights } = await open("localhost");
    assert.equal(error, null);
    assert.match(pieces.join(""), /hub list/);
    assert.ok(pieces.length > 1, "the answer came in pieces");
    assert.ok(headers["x-request-id"] && headers["x-hub-route"], JSON.stringify(headers));
    assert.equal(headers["x-hub-model"], CHAT);
    assert.equal(preflights.length, 1, "the browser asked first");
    assert.equal(preflights[0].status, 204);
    if (screenshot) await page.screenshot({ path: screenshot });
    await page.close();
  },

  async page_of_another_site() {
    const { page, pieces, error, console, preflights } = await open(FOREIGN);
    assert.match(error ?? "", /^APIConnectionError/);
    assert.deepEqual(pieces, []);
    assert.deepEqual(preflights.map(({ status }) => status), [403]);
    assert.ok(console.some((line) => line.includes("CORS")), console.join("\n"));
    // What the browser asked, asked again: the page is not told why, whoever looks is.
    const asked = { "access-control-request-method": "POST", origin: `http://${FOREIGN}:${port}` };
    const refused = await fetch(`${hub}/v1/chat/completions`, { method: "OPTIONS", headers: asked });
    assert.equal(refused.status, 403);
    assert.ok((await refused.text()).includes(SETTING));
    await page.close();
  },

  async form_of_another_site() {
    // A form needs no leave of the browser: the hub itself has to refuse it.
    const { page } = await open(FOREIGN);
    const answered = page.waitForResponse((response) => response.url().startsWith(hub));
    await page.evaluate((hub) => {
      const form = Object.assign(document.createElement("form"), { method: "post", enctype: "text/plain" });
      form.action = `${hub}/v1/chat/completions`;
      document.body.append(form);
      form.submit();
    }, hub);
    assert.equal((await answered).status(), 403);
    await page.waitForURL(`${hub}/**`);
    const shown = await page.locator("body").innerText();
    assert.ok(shown.includes("origin_not_allowed") && shown.includes(SETTING), shown);
    await page.close();
  },

  async name_of_another_site() {
    // A foreign name that leads to the hub itself (DNS rebinding).
    const page = await browser.newPage();
    const answer = await page.goto(hub.replace(/\/\/[^:]+/, `//${FOREIGN}`) + "/v1/models");
    const shown = await answer.text();
    assert.equal(answer.status(), 403);
    assert.ok(shown.includes("host_not_allowed") && shown.includes(SETTING), shown);
    await page.close();
  },
};

let failed = 0;
for (const [name, check] of Object.entries(checks)) {
  try {
    await check();
    console.log(`chromium ${browser.version()}: ${name} ok`);
  } catch (error) {
    failed += 1;
    console.log(`chromium ${browser.version()}: ${name} failed`);
    console.error(error);
  }
}
await browser.close();
server.close();
process.exit(failed ? 1 : 0);
