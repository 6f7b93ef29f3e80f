// The Vercel AI SDK: version 6 with the telemetry that it brings, version 7 with @ai-sdk/otel (argv[3]).
import { context, trace } from "@opentelemetry/api";
import { OTLPTraceExporter } from "@opentelemetry/exporter-trace-otlp-http";
import { detectResources, envDetector } from "@opentelemetry/resources";
import { BatchSpanProcessor, NodeTracerProvider } from "@opentelemetry/sdk-trace-node";
import { z } from "zod";

const [, , name, version] = process.argv;
const provider = new NodeTracerProvider({ resource: detectResources({ detectors: [envDetector] }), spanProcessors: [new BatchSpanProcessor(new OTLPTraceExporter())] });
provider.register();
const six = version === "6";
const { embed, embedMany, generateText, isStepCount, stepCountIs, streamText, tool, ...ai } = await import(six ? "ai-6" : "ai");
const { createOpenAI } = await import(six ? "@ai-sdk/openai-6" : "@ai-sdk/openai");
if (!six) {
  const { OpenTelemetry } = await import("@ai-sdk/otel");
  ai.registerTelemetry(new OpenTelemetry());
}
const openai = createOpenAI({ baseURL: process.env.OPENAI_BASE_URL, apiKey: process.env.OPENAI_API_KEY });
const about = { functionId: name, metadata: { sessionId: "session-1", userId: "user-1" } };
const told = six ? { experimental_telemetry: { isEnabled: true, ...about } } : { telemetry: { isEnabled: true, functionId: name } };
const common = { maxRetries: 0, model: openai.chat("gpt-4o-mini"), ...told };
const embedding = { maxRetries: 0, model: openai.embedding("text-embedding-3-small"), ...told };
const get_weather = tool({
  description: "The weather of a city.",
  inputSchema: z.object({ city: z.string() }),
  execute: async () => "sunny, 21 degrees",
});

const scenarios = {
  chat: () => generateText({ ...common, prompt: "Say hello." }),
  stream: async () => {
    for await (const _ of streamText({ ...common, prompt: "Count to three." }).textStream);
  },
  tools: () => {
    const { execute: _, ...declared } = get_weather;
    return generateText({ ...common, prompt: "What is the weather in Paris?", tools: { get_weather: declared } });
  },
  usage: () => generateText({ ...common, model: openai.chat("gpt-5-mini"), prompt: "Think about the long document." }),
  embeddings: () => embedMany({ ...embedding, values: ["tea", "coffee"] }),
  rag: () =>
    trace.getTracer("corpus").startActiveSpan("answer", async (span) => {
      await embed({ ...embedding, value: "How long does tea steep?" });
      await generateText({ ...common, prompt: "Tea steeps for three minutes.\nHow long does tea steep?" });
      span.end();
    }),
  agent: () =>
    generateText({
      ...common,
      prompt: "Use your tool: what is the weather in Rome?",
      tools: { get_weather },
      stopWhen: (stepCountIs ?? isStepCount)(5),
    }),
};
await scenarios[name]();
await new Promise((done) => setImmediate(done));
await provider.shutdown();
