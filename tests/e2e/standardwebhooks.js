// The npm package of the standard, used as its page says: the arguments and exit status are the recipes'.
const fs = require("node:fs");
const { Webhook } = require("standardwebhooks");

const [id, timestamp, signatures] = process.argv.slice(2);
const headers = { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": signatures };
try {
  new Webhook(process.env.WEBHOOK_SECRET).verify(fs.readFileSync(0), headers);
} catch {
  process.exitCode = 1;
}
