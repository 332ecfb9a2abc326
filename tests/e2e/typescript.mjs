// Calls the TypeScript SDK once, plain or streamed, and prints the answer as JSON.
import Anthropic from "@anthropic-ai/sdk";

const [how, model, prompt] = process.argv.slice(2);
const client = new Anthropic();
const body = { model, max_tokens: 2048, messages: [{ role: "user", content: prompt }] };
try {
  const message =
    how === "stream"
      ? await client.messages.stream(body).finalMessage()
      : await client.messages.create(body);
  console.log(JSON.stringify(message.content));
} catch (error) {
  console.log(JSON.stringify({ class: error.constructor.name, status: error.status, type: error.type }));
}
