// OpenFeature's web SDK over its OFREP provider: all flags at once, and news of a flip over server-sent events.
import { createInterface } from "node:readline";
import { EventSource } from "eventsource";

globalThis.EventSource = EventSource; // a browser has one
const { OFREPWebProvider } = await import("@openfeature/ofrep-web-provider");
const { OpenFeature, ProviderEvents } = await import("@openfeature/web-sdk");

const { FLAGS_URL: baseUrl, FLAGS_KEY: key } = process.env;
const told = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
await OpenFeature.setContext({ targetingKey: "user-1", plan: "free" });
const provider = new OFREPWebProvider({ baseUrl, headers: [["X-API-Key", key]], cacheMode: "disabled" });
await OpenFeature.setProviderAndWait(provider);
const client = OpenFeature.getClient();
const details = ({ value, variant, reason, errorCode }) => [value, variant ?? null, reason, errorCode ?? ""];
const changed = new Promise((resolve) => client.addHandler(ProviderEvents.ConfigurationChanged, (e) => resolve(e.flagsChanged)));

const out = {
  boolean: details(client.getBooleanDetails("new-answer", true)),
  string: details(client.getStringDetails("colour", "none")),
  integer: details(client.getNumberDetails("retries", 0)),
  float: details(client.getNumberDetails("ratio", 0)),
  object: details(client.getObjectDetails("layout", {})),
  split: details(client.getBooleanDetails("half", false))[2],
  disabled: details(client.getStringDetails("gone", "the code's")),
  unknown: details(client.getBooleanDetails("nobody-knows", true)),
  wrong_type: details(client.getBooleanDetails("colour", true)),
};
await new Promise((resolve) => setImmediate(resolve));
console.log(JSON.stringify(out));
await told.next(); // the flip is done: its news has two seconds
const late = setTimeout(() => { console.error("no news of the flip within 2 s"); process.exit(1); }, 2000);
const flags = await changed;
clearTimeout(late);
console.log(JSON.stringify({ flipped: client.getBooleanValue("new-answer", false), changed: flags }));
process.exit(0);
