// The Vercel AI SDK: generateText, streamText, tools and generateObject over OpenAI's and Anthropic's APIs.
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOpenAI } from "@ai-sdk/openai";
import { generateObject, generateText, streamText, tool } from "ai";
import { z } from "zod";

const { OPENAI_BASE_URL: baseURL, OPENAI_API_KEY: apiKey, MODEL } = process.env;
const openai = createOpenAI({ baseURL, apiKey });
const anthropic = createAnthropic({ baseURL, apiKey });
const common = { maxRetries: 0 };
const lookup = tool({ description: "Looks up.", inputSchema: z.object({ q: z.string() }) });
const order = z.object({ item: z.string(), count: z.number().int() });

async function streamed(model) {
  let text = "";
  for await (const piece of streamText({ ...common, model, prompt: "hello stream" }).textStream) text += piece;
  return text;
}

const used = await generateText({ ...common, model: openai.chat(MODEL), prompt: "use the tool", tools: { lookup } });
const out = {
  chat: (await generateText({ ...common, model: openai.chat(MODEL), prompt: "hello" })).text,
  chat_stream: await streamed(openai.chat(MODEL)),
  responses: (await generateText({ ...common, model: openai.responses(MODEL), prompt: "hello" })).text,
  responses_stream: await streamed(openai.responses(MODEL)),
  messages: (await generateText({ ...common, model: anthropic(MODEL), prompt: "hello" })).text,
  messages_stream: await streamed(anthropic(MODEL)),
  tool: used.toolCalls.map((c) => [c.toolName, c.input]),
  object: (await generateObject({ ...common, model: openai.chat(MODEL), schema: order, prompt: "order as json" })).object,
};
console.log(JSON.stringify(out));
