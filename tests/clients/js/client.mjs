// nats.js against a broker: see `run` for the words it speaks with its driver.
import { connect } from "@nats-io/transport-node";
import { AckPolicy, jetstream, jetstreamManager } from "@nats-io/jetstream";
import assert from "node:assert";
import readline from "node:readline";

const [url, count] = [process.argv[2], Number(process.argv[3])];
const sleep = (ms) => new Promise((done) => setTimeout(done, ms));
setTimeout(() => { console.log("FAIL too slow"); process.exit(1); }, 300_000).unref();

const nc = await connect({ servers: url, maxReconnectAttempts: -1, reconnectTimeWait: 100 });
const sub = nc.subscribe("greet.*", { max: 100 });
for (let i = 0; i < 100; i++) nc.publish(`greet.${i}`, `${i}`);
const got = [];
for await (const m of sub) got.push(Number(m.string()));
assert.deepStrictEqual(got, [...Array(100).keys()]);
console.log("ok publish and subscribe");

nc.subscribe("service", { callback: (_, m) => m.respond("re: " + m.string()) });
const reply = await nc.request("service", "hi", { timeout: 5000 });
assert.strictEqual(reply.string(), "re: hi");
await assert.rejects(nc.request("nobody", "hi", { timeout: 5000 }));
console.log("ok request");

const js = jetstream(nc);
const jsm = await jetstreamManager(nc);
await jsm.streams.add({ name: "JS", subjects: ["js.>"] });
const acked = new Map();
async function publish(i) {
  for (;;) {
    try {
      acked.set(i, (await js.publish(`js.${i}`, `${i}`, { msgID: `${i}` })).seq);
      return;
    } catch {
      await sleep(100);
    }
  }
}
async function publishAll(first, last) {
  for (let start = first; start < last; start += 200) {
    const batch = [];
    for (let i = start; i < Math.min(start + 200, last); i++) batch.push(publish(i));
    await Promise.all(batch);
  }
}
const half = Math.floor(count / 2);
await publishAll(0, half);
await jsm.consumers.add("JS", {
  durable_name: "D", ack_policy: AckPolicy.Explicit, ack_wait: 300 * 1e9,
});
const seen = [];
async function fetchUpTo(wanted) {
  while (new Set(seen).size < wanted) {
    try {
      const consumer = await js.consumers.get("JS", "D");
      const max_messages = Math.min(250, wanted - new Set(seen).size);
      const batch = await consumer.fetch({ max_messages, expires: 5000 });
      const acks = [];
      for await (const m of batch) {
        seen.push(Number(m.string()));
        acks.push(m.ackAck({ timeout: 30000 }));
      }
      await Promise.all(acks);
    } catch {
      await sleep(100);
    }
  }
}
await fetchUpTo(Math.floor(half / 2));
const line = readline.createInterface({ input: process.stdin });
console.log("RESTART");
await new Promise((done) => line.once("line", done));
line.close();
await publishAll(half, count);
await fetchUpTo(count);
assert.strictEqual(new Set(acked.values()).size, count);
assert.strictEqual((await jsm.streams.info("JS")).state.messages, count);
console.log("ok create a stream and publish with acks");
assert.strictEqual(new Set(seen).size, count);
console.log("ok every acknowledged message after a restart");
const twice = seen.length - new Set(seen).size;
console.log(twice ? `twice ${twice} messages came twice` : "ok once");
await nc.close();
process.exit(0);
