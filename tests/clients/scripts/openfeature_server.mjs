// OpenFeature's server SDK for JavaScript over its OFREP provider: every type, targeting, errors, and a flip.
import { createInterface } from "node:readline";
import { OFREPProvider } from "@openfeature/ofrep-provider";
import { OpenFeature } from "@openfeature/server-sdk";

const { FLAGS_URL: baseUrl, FLAGS_KEY: key } = process.env;
const told = createInterface({ input: process.stdin })[Symbol.asyncIterator]();
await OpenFeature.setProviderAndWait(new OFREPProvider({ baseUrl, headers: [["X-API-Key", key]] }));
const client = OpenFeature.getClient();
const nobody = { targetingKey: "user-1", plan: "free" };
const staff = { targetingKey: "user-1", email: "ana@example.org" };
const details = ({ value, variant, reason, errorCode }) => [value, variant ?? null, reason, errorCode ?? ""];

const out = {
  boolean: details(await client.getBooleanDetails("new-answer", true, nobody)),
  targeted: details(await client.getBooleanDetails("new-answer", false, staff)),
  string: details(await client.getStringDetails("colour", "none", nobody)),
  integer: details(await client.getNumberDetails("retries", 0, nobody)),
  float: details(await client.getNumberDetails("ratio", 0, nobody)),
  object: details(await client.getObjectDetails("layout", {}, nobody)),
  split: details(await client.getBooleanDetails("half", false, nobody))[2],
  unknown: details(await client.getBooleanDetails("nobody-knows", true, nobody)),
  wrong_type: details(await client.getBooleanDetails("colour", true, nobody)),
};
console.log(JSON.stringify(out));
await told.next(); // the flip is done
console.log(JSON.stringify({ flipped: await client.getBooleanValue("new-answer", false, nobody) }));
process.exit(0);
