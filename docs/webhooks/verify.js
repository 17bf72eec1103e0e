// Verify a CloudArc webhook. Use one of the two functions, on the body's raw bytes, before parsing them.
//
//   WEBHOOK_SECRET=whsec_… node verify.js ID TIMESTAMP SIGNATURE < body    checks the headers
//   WEBHOOK_SECRET=whsec_… node verify.js < body                           checks the body's signature
//
// The exit status is 0 if the delivery is genuine, else 1.

const crypto = require("node:crypto");
const fs = require("node:fs");

const TOLERANCE = 5 * 60;
const TAIL = 87; // the length of ,"signature":"sha256=…"}

// Check webhook-id, webhook-timestamp and webhook-signature. A delivery that is replayed later fails.
function verifyHeaders(secret, id, timestamp, signatures, body) {
  if (!/^[0-9]{1,12}$/.test(timestamp) || Math.abs(Date.now() / 1000 - Number(timestamp)) > TOLERANCE) return false;
  const signed = Buffer.concat([Buffer.from(`${id}.${timestamp}.`), body]);
  const expected = "v1," + mac(secret, signed).toString("base64");
  // While a secret is rotated there are two signatures.
  return signatures.split(" ").some((each) => equal(each, expected));
}

// Check the member "signature": it signs the body without its tail, and with the brace put back.
function verifyBody(secret, body) {
  const cut = Math.max(0, body.length - TAIL);
  const base = Buffer.concat([body.subarray(0, cut), Buffer.from("}")]);
  return equal(body.subarray(cut), `,"signature":"sha256=${mac(secret, base).toString("hex")}"}`);
}

function mac(secret, signed) {
  const key = Buffer.from(secret.replace(/^whsec_/, ""), "base64");
  // Above all, a secret that is missing must not become an empty key.
  if (key.length !== 36) throw new Error("This is not a webhook secret.");
  return crypto.createHmac("sha256", key).update(signed).digest();
}

function equal(given, expected) {
  const [a, b] = [Buffer.from(given), Buffer.from(expected)];
  return a.length === b.length && crypto.timingSafeEqual(a, b);
}

module.exports = { verifyHeaders, verifyBody };

if (require.main === module) {
  const secret = process.env.WEBHOOK_SECRET;
  const [id, timestamp, signatures] = process.argv.slice(2);
  const body = fs.readFileSync(0);
  const genuine = id ? verifyHeaders(secret, id, timestamp, signatures, body) : verifyBody(secret, body);
  process.exitCode = genuine ? 0 : 1;
}
